"""An SVG that Graphviz made, as a PDF of one page: vectors, and text that can be selected, in the font that comes with graphc.

This is no reader of SVG: Graphviz writes polygons, polylines, ellipses, paths of M L C Z, texts, and groups moved as a whole, and that is what is
read. What a label holds beyond our font is drawn as a replacement character. The same SVG gives the same bytes. After ISO 32000-1.
"""
from __future__ import annotations

import pathlib
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator

from ..core.record import dataclass, field
from .ttf import Font, read

LARGEST = 14_400.0                                      # units of a page's side, by the standard; what is larger is drawn smaller
ARC = 0.5522847498                                      # a quarter of a circle as a cubic: 4/3 (√2 - 1)
NAMED = {"black": "#000000", "white": "#ffffff"}
SILENT = frozenset("\u200b\u200c\u200d\u2060\ufe0e\ufe0f")     # joiners, selectors: nothing to be seen
NUMBER = r"-?\d*\.?\d+(?:e-?\d+)?"


@dataclass(slots=True)
class _Face:
    """A font and what of it is used."""

    font: Font
    used: dict[int, str] = field(default_factory=dict)  # glyph → character

    def glyphs(self, text: str) -> list[int]:
        have = self.font.glyphs
        out = []
        for c in text:
            if c not in SILENT:
                c = c if c in have else "\ufffd"
                out.append(have[c])
                self.used.setdefault(have[c], c)
        return out


def write_pdf(svg: bytes, fonts: pathlib.Path) -> bytes:
    """The page. Raises ValueError for what Graphviz does not write."""
    root = ET.fromstring(svg)
    _, _, width, height = (float(v) for v in root.attrib["viewBox"].split())
    scale = min(1.0, LARGEST / max(width, height))
    faces = {"F1": _Face(read(fonts / "graphc-sans.ttf")), "F2": _Face(read(fonts / "graphc-sans-bold.ttf"))}
    lines = [f"{scale:.6g} 0 0 {-scale:.6g} 0 {_n(height * scale)} cm", "1 J 1 j", *_drawn(root, faces)]
    return _file(width * scale, height * scale, "\n".join(lines).encode(), faces)


# ---- what is drawn ---------------------------------------------------------------------------------------------------------------


def _n(v: float) -> str:
    return f"{v:.2f}".rstrip("0").rstrip(".") or "0"


def _drawn(e: ET.Element, faces: dict[str, _Face]) -> Iterator[str]:
    """The operators for an element and what is in it."""
    match e.tag.rpartition("}")[2]:
        case "svg" | "a": yield from (line for child in e for line in _drawn(child, faces))
        case "g":
            yield "q"
            yield from _moved(e.get("transform", ""))
            yield from (line for child in e for line in _drawn(child, faces))
            yield "Q"
        case "title": pass
        case "text": yield from _text(e, faces)
        case "polygon": yield from _painted(e, _points(e.attrib["points"]) + " h")
        case "polyline": yield from _painted(e, _points(e.attrib["points"]))
        case "path": yield from _painted(e, _path(e.attrib["d"]))
        case "ellipse": yield from _painted(e, _ellipse(*(float(e.attrib[k]) for k in ("cx", "cy", "rx", "ry"))))
        case tag: raise ValueError(f"an SVG with a {tag}")


def _moved(transform: str) -> Iterator[str]:
    for name, inside in re.findall(r"(\w+)\(([^)]*)\)", transform):
        a, b = [*(float(v) for v in re.findall(NUMBER, inside)), 0.0][:2]
        match name:
            case "scale": yield f"{a:.6g} 0 0 {(b or a):.6g} 0 0 cm"
            case "translate": yield f"1 0 0 1 {_n(a)} {_n(b)} cm"
            case "rotate" if not a: pass
            case _: raise ValueError(f"an SVG with {name}({inside})")


def _points(text: str) -> str:
    xy = [_n(float(v)) for v in re.findall(NUMBER, text)]
    return " ".join(f"{x} {y} {'l' if k else 'm'}" for k, (x, y) in enumerate(zip(xy[::2], xy[1::2], strict=True)))


def _path(d: str) -> str:
    out, op, numbers = list[str](), "", list[str]()
    for token in re.findall(rf"[A-Za-z]|{NUMBER}", d):
        if token.isalpha():
            op = token
            if op not in "MLCZz":
                raise ValueError(f"an SVG with a path of {op}")
            if op in "Zz":
                out.append("h")
            continue
        numbers.append(_n(float(token)))
        if len(numbers) == (6 if op == "C" else 2):
            out.append(f"{' '.join(numbers)} {op.lower()}")
            numbers.clear()
            op = "L" if op == "M" else op               # points after the first of an M are lines
    return " ".join(out)


def _ellipse(x: float, y: float, rx: float, ry: float) -> str:
    u, v = rx * ARC, ry * ARC
    at = [(rx, 0), (rx, v), (u, ry), (0, ry), (-u, ry), (-rx, v), (-rx, 0), (-rx, -v), (-u, -ry), (0, -ry), (u, -ry), (rx, -v), (rx, 0)]
    (first, *rest) = (f"{_n(x + a)} {_n(y + b)}" for a, b in at)
    return " ".join([f"{first} m", *(f"{' '.join(rest[k:k + 3])} c" for k in (0, 3, 6, 9)), "h"])


def _ink(colour: str) -> str:
    found = re.fullmatch(r"#([0-9a-fA-F]{6})([0-9a-fA-F]{2})?", NAMED.get(colour, colour))
    if found is None:
        raise ValueError(f"an SVG with the colour {colour}")
    return " ".join(_n(int(found[1][k:k + 2], 16) / 255) for k in (0, 2, 4))


def _painted(e: ET.Element, outline: str) -> Iterator[str]:
    fill, stroke = e.get("fill", "black"), e.get("stroke", "none")
    clear = ("none", "transparent")
    if fill in clear and stroke in clear:
        return
    yield "q"
    if fill not in clear:
        yield f"{_ink(fill)} rg"
    if stroke not in clear:
        dashes = " ".join(_n(float(v)) for v in re.findall(NUMBER, e.get("stroke-dasharray", "")))
        yield f"{_ink(stroke)} RG {_n(float(e.get('stroke-width', '1')))} w" + (f" [{dashes}] 0 d" if dashes else "")
    yield outline
    yield "B" if fill not in clear and stroke not in clear else "f" if fill not in clear else "S"
    yield "Q"


def _text(e: ET.Element, faces: dict[str, _Face]) -> Iterator[str]:
    name = "F2" if e.get("font-weight") == "bold" else "F1"
    size, x, y = (float(e.attrib[k]) for k in ("font-size", "x", "y"))
    glyphs = faces[name].glyphs(e.text or "")
    if not glyphs:
        return
    wide = sum(map(faces[name].font.width, glyphs)) * size / 1000
    x -= {"middle": wide / 2, "end": wide}.get(e.get("text-anchor", "start"), 0.0)
    yield f"BT {_ink(e.get('fill', 'black'))} rg /{name} {_n(size)} Tf 1 0 0 -1 {_n(x)} {_n(y)} Tm <{''.join(f'{g:04x}' for g in glyphs)}> Tj ET"


# ---- the file --------------------------------------------------------------------------------------------------------------------


def _file(width: float, height: float, content: bytes, faces: dict[str, _Face]) -> bytes:
    """The objects: catalogue, pages, page, content; then five for each font in use."""
    used = {name: face for name, face in faces.items() if face.used}
    fonts = " ".join(f"/{name} {5 + 5 * k} 0 R" for k, name in enumerate(used))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
               f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_n(width)} {_n(height)}] /Resources << /Font << {fonts} >> >> /Contents 4 0 R >>".encode(),
               _stream(content)]
    for name, face in used.items():
        objects += _font(name, face, len(objects) + 1)
    out, places = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"), []
    for k, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (k, body)
    end = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1) + b"".join(b"%010d 00000 n \n" % at for at in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, end)
    return bytes(out)


def _stream(data: bytes, extra: str = "") -> bytes:
    packed = zlib.compress(data, 9)
    return f"<< /Length {len(packed)} /Filter /FlateDecode{extra} >>\nstream\n".encode() + packed + b"\nendstream"


def _font(name: str, face: _Face, at: int) -> list[bytes]:
    """Five objects, the first numbered `at`: a font of two-byte glyph numbers, its glyphs, their looks, the file, and what each means as text."""
    font, glyphs = face.font, sorted(face.used)
    called = f"{'GRAPHC' if name == 'F1' else 'GRAPHB'}+graphcSans{'-Bold' if name == 'F2' else ''}"      # six letters: a subset
    file = font.subset(glyphs)
    widths = " ".join(f"{g} [{font.width(g)}]" for g in glyphs)
    means = "\n".join(f"1 beginbfchar <{g:04x}> <{face.used[g].encode('utf-16-be').hex()}> endbfchar" for g in glyphs)
    return [
        f"<< /Type /Font /Subtype /Type0 /BaseFont /{called} /Encoding /Identity-H /DescendantFonts [{at + 1} 0 R] /ToUnicode {at + 4} 0 R >>".encode(),
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{called} /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
        f"/FontDescriptor {at + 2} 0 R /W [{widths}] /CIDToGIDMap /Identity >>".encode(),
        f"<< /Type /FontDescriptor /FontName /{called} /Flags 4 /FontBBox [{' '.join(map(str, font.box))}] /ItalicAngle 0 /Ascent {font.ascent} "
        f"/Descent {font.descent} /CapHeight {font.ascent} /StemV {80 if name == 'F1' else 140} /FontFile2 {at + 3} 0 R >>".encode(),
        _stream(file, f" /Length1 {len(file)}"),
        _stream(b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /graphc def /CMapType 2 def\n"
                b"1 begincodespacerange <0000> <ffff> endcodespacerange\n" + means.encode() +
                b"\nendcmap CMapName currentdict /CMap defineresource pop end end"),
    ]
