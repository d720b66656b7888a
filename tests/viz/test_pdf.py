"""PDFs written by ourselves: every object where the table says, every word selectable, only Graphviz's SVG."""
from __future__ import annotations

import re
import struct
import zlib

import pytest

from graphc.ir.node import Graph
from graphc.viz import render, to_dot
from graphc.viz.pdf import write_pdf
from graphc.viz.ttf import Font

SVG = '''<svg width="90pt" height="60pt" viewBox="0.00 0.00 90.00 60.00" xmlns="http://www.w3.org/2000/svg">
<g class="graph" transform="scale(1 1) rotate(0) translate(4 56)"><title>t</title>%s</g></svg>'''


def objects(pdf: bytes) -> dict[int, bytes]:
    """Number → body, read through the cross-reference table, which is checked on the way."""
    assert pdf.startswith(b"%PDF-1.5\n")
    assert pdf.endswith(b"%%EOF\n")
    at = int(pdf.rsplit(b"startxref\n", 1)[1].split()[0])
    lines = pdf[at:].split(b"\n")
    assert lines[0] == b"xref"
    out = {}
    for k in range(1, int(lines[1].split()[1])):
        place = int(lines[2 + k][:10])
        assert len(lines[2 + k]) == 19
        assert pdf[place:].startswith(b"%d 0 obj\n" % k)
        out[k] = pdf[place:].split(b" obj\n", 1)[1]
    return out


def stream(body: bytes) -> bytes:
    head, rest = body.split(b"stream\n", 1)
    size = int(re.search(rb"/Length (\d+)", head)[1])                   # type: ignore[index]
    assert rest[size:].startswith(b"\nendstream")
    return zlib.decompress(rest[:size])


def words(pdf: bytes) -> list[str]:
    """The texts as a reader selects them: glyphs by the fonts' ToUnicode maps."""
    body = objects(pdf)
    fonts = {m[1]: int(m[2]) for m in re.finditer(rb"/(F\d) (\d+) 0 R", body[3])}
    means = {}
    for name, k in fonts.items():
        table = stream(body[k + 4])
        means[name] = {m[1]: bytes.fromhex(m[2].decode()).decode("utf-16-be") for m in re.finditer(rb"beginbfchar <(\w+)> <(\w+)>", table)}
    return ["".join(means[m[1]][m[2][i:i + 4]] for i in range(0, len(m[2]), 4)) for m in re.finditer(rb"/(F\d) [\d.]+ Tf [^<]*<(\w+)> Tj", stream(body[4]))]


def test_shapes_and_places() -> None:
    pdf = write_pdf((SVG % '''<polygon fill="#ff0000" stroke="none" points="0,0 10,0 10,-20"/><polyline fill="none" stroke="black" points="1,2 3,4"/>
<path fill="none" stroke="#0000ff" stroke-width="1.50" stroke-dasharray="5,2" d="M1,-2C3,4 5,6 7,8 9,10 11,12 13,14L15,16Z"/>
<ellipse fill="white" stroke="transparent" cx="20" cy="-10" rx="4" ry="2"/>
<text text-anchor="middle" x="30" y="-5" font-size="10.00" fill="#00ff00">ii</text>''').encode(), render.FONTS)
    content = stream(objects(pdf)[4]).decode()
    assert content.splitlines()[0] == "1 0 0 -1 0 60 cm"                 # up is up
    assert "1 0 0 1 4 56 cm" in content
    assert "1 0 0 rg\n0 0 m 10 0 l 10 -20 l h\nf\n" in content
    assert "0 0 0 RG 1 w\n1 2 m 3 4 l\nS\n" in content
    assert "0 0 1 RG 1.5 w [5 2] 0 d\n1 -2 m 3 4 5 6 7 8 c 9 10 11 12 13 14 c 15 16 l h\nS\n" in content
    assert "1 1 1 rg\n24 -10 m " in content
    font = Font((render.FONTS / "graphc-sans.ttf").read_bytes())
    assert f"Tf 1 0 0 -1 {30 - font.width(font.glyphs['i']) / 100:g} -5 Tm" in content      # one of the two letters to each side
    assert content.count("q\n") == content.count("Q")
    assert b"/MediaBox [0 0 90 60]" in pdf


def test_what_the_font_lacks_and_what_is_silent() -> None:
    pdf = write_pdf((SVG % '<text x="0" y="0" font-size="9">a😀b\u200dc</text><text x="0" y="0" font-size="9"></text>').encode(), render.FONTS)
    assert words(pdf) == ["a\ufffdbc"]


def test_a_picture_beyond_the_largest_page_is_drawn_smaller() -> None:
    pdf = write_pdf(b'<svg viewBox="0 0 28800 100"><polygon points="0,0 1,1"/></svg>', render.FONTS)
    assert b"/MediaBox [0 0 14400 50]" in pdf
    assert stream(objects(pdf)[4]).startswith(b"0.5 0 0 -0.5 0 50 cm")


@pytest.mark.parametrize("bad", ["<image/>", '<path d="M1,1A2,3"/>', '<polygon points="1,1" fill="octarine"/>', '<g transform="skewX(3)"/>'])
def test_what_graphviz_does_not_write(bad: str) -> None:
    with pytest.raises(ValueError, match="an SVG with"):
        write_pdf((SVG % bad).encode(), render.FONTS)


@pytest.mark.skipif(not render.renderers(), reason="no renderer here")
def test_a_step(step: Graph, hostile: Graph) -> None:
    for graph in (step, hostile):
        first, again = (render.rendered(to_dot(graph), "pdf").data for _ in range(2))
        assert first is not None
        assert first == again
        said = words(first)
        assert ("d loss / d fc1.weight" if graph is step else "<script>alert(1)</script>") in said
        assert len(first) < 60_000


@pytest.mark.parametrize("name", ["graphc-sans.ttf", "graphc-sans-bold.ttf"])
def test_a_subset_is_a_font(name: str) -> None:
    font = Font((render.FONTS / name).read_bytes())
    some = [font.glyphs[c] for c in "aé→ij"]
    small = font.subset(some)
    again = Font(small)
    assert len(small) < len(font.data) / 4
    for glyph in some:
        assert again.outline(glyph).startswith(font.outline(glyph))
        assert again.width(glyph) == font.width(glyph)
        for part in font.parts(glyph):                                  # é is e and an accent
            assert again.outline(part).startswith(font.outline(part))
    assert font.parts(font.glyphs["é"])
    assert not again.outline(font.glyphs["z"])
    for tag, table in again.tables.items():
        k = next(k for k in range(len(again.tables)) if small[12 + 16 * k:16 + 16 * k] == tag)
        padded = table + bytes(-len(table) % 4)
        assert struct.unpack_from(">L", small, 16 + 16 * k)[0] == sum(struct.unpack(f">{len(padded) // 4}L", padded)) & 0xFFFFFFFF
