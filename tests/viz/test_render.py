"""Files: each format by whatever renderer there is, and the DOT text with one sentence where there is none, or it is slow, or it fails."""
from __future__ import annotations

import importlib.util
import json
import logging
import re
import shutil
import struct
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from graphc.core.errors import GraphError
from graphc.ir.node import Graph
from graphc.viz import draw, render, to_dot, to_graphviz, to_html

HAVE = bool(shutil.which("dot")) or importlib.util.find_spec("pygraphviz") is not None
needs_graphviz = pytest.mark.skipif(not HAVE, reason="no Graphviz here")


@needs_graphviz
@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG\r\n"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_each_format(step: Graph, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = draw(step, tmp_path / f"step{suffix}")
    assert path == tmp_path / f"step{suffix}"
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]           # nothing else is left


def test_dot_needs_no_renderer(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: pytest.fail("asked for a renderer"))
    path = draw(step, str(tmp_path / "step.dot"), title="a title")
    assert path.read_text(encoding="utf-8") == to_dot(step, title="a title")
    assert "a title" in path.read_text(encoding="utf-8")


@needs_graphviz
def test_the_svg_says_what_is_in_it(step: Graph, tmp_path: Path) -> None:
    svg = ET.parse(draw(step, tmp_path / "step.svg"))
    texts = {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"train_step", "d loss / d fc1.weight", "fc2.bias", "fc2.bias ←", "update: momentum", "maximum(·, 0)", "contract ij,kj→ik", "f32[6,7]"} <= texts
    titles = {v for e in svg.iter() for k, v in e.attrib.items() if k.endswith("title")}
    assert any("train.py:12 in Net.forward" in t for t in titles)


@needs_graphviz
def test_hostile_strings_come_out_as_text(hostile: Graph, tmp_path: Path) -> None:
    svg = ET.parse(draw(hostile, tmp_path / "hostile.svg", expand=True))
    tags = {e.tag.rpartition("}")[2] for e in svg.iter()}
    assert tags <= {"svg", "g", "title", "a", "polygon", "path", "text", "ellipse", "polyline"}
    texts = {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {'"', "a∖", "∖N∖G∖l", "a b c", "<script>alert(1)</script>", "😀👩‍👩‍👧", "&lt;&amp;", "]]>", "{a|b}", "%s%n", "<b>", "-->"} <= texts
    links = {v for e in svg.iter() for k, v in e.attrib.items() if k.endswith("href")}
    assert not links


@pytest.mark.skipif(importlib.util.find_spec("pygraphviz") is None, reason="needs the extra `viz`")
def test_lanes_stand_from_left_to_right(step: Graph, loop: Graph) -> None:
    code = ("import sys, pygraphviz; graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode()); "
            "sys.stdout.buffer.write(graph.draw(format='json', prog='dot'))")
    for graph in (step, loop):
        made = subprocess.run([sys.executable, "-c", code], input=to_dot(graph, expand=True).encode(), capture_output=True, check=True, timeout=60).stdout
        boxes = {o["tooltip"]: [float(v) for v in o["bb"].split(",")] for o in json.loads(made)["objects"]
                 if o.get("tooltip") in ("forward", "backward", "update")}
        assert boxes["forward"][2] < boxes["backward"][0]
        assert boxes["backward"][2] < boxes["update"][0]
        assert len({box[3] for box in boxes.values()}) == 1              # tops in a row


def one_sentence(caplog: pytest.LogCaptureFixture) -> str:
    assert [r.name for r in caplog.records] == ["graphc"]
    assert caplog.records[0].levelno == logging.WARNING
    text = caplog.records[0].getMessage()
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_without_graphviz(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = draw(step, tmp_path / f"step{suffix}")
    assert path == tmp_path / "step.html"
    assert path.read_text(encoding="utf-8") == to_html(step, theme="light")
    said = one_sentence(caplog)
    assert re.search(r"wrote .*step\.html, which any browser opens, in the place of step\.\w+: there is no Graphviz here; ", said)
    assert said.count('pip install "graphc[viz]"') == said.count("install") == 1                       # one command
    assert [p.name for p in tmp_path.iterdir()] == ["step.html"]


def test_a_slow_renderer_is_stopped(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: [("dot", [sys.executable, "-c", "import time; time.sleep(60)"])])
    start = time.monotonic()
    path = draw(step, tmp_path / "step.svg", timeout=0.3, expand=True)
    assert time.monotonic() - start < 20
    assert path == tmp_path / "step.html"
    assert "dot took more than 0.3 s" in one_sentence(caplog)


def test_what_takes_too_long_is_drawn_folded(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    slow_if_whole = "import sys, time; dot = sys.stdin.read(); time.sleep(60 if 'broadcast</font>' in dot else 0); print(dot.count('\\n'))"
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: [("dot", [sys.executable, "-c", slow_if_whole])])
    path = draw(step, tmp_path / "step.png", timeout=2.0, expand=True)
    assert path == tmp_path / "step.png"
    assert int(path.read_text()) == to_dot(step, expand=False).count("\n")
    assert re.search(r"drew step\.png folded, for dot took more than 2 s", one_sentence(caplog))


def test_a_renderer_that_fails_gives_way_to_the_next(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    crash = ("dot", [sys.executable, "-c", "import os; os.abort()"])
    words = ("dot", [sys.executable, "-c", "import sys; sys.exit('no such font')"])
    absent = ("dot", [str(tmp_path / "absent")])
    good = ("other", [sys.executable, "-c", "import sys; sys.stdout.write('picture')"])
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: [crash, words, absent, good])
    assert draw(step, tmp_path / "step.svg").read_text() == "picture"
    assert not caplog.records
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: [crash, words, absent])
    assert draw(step, tmp_path / "step.svg") == tmp_path / "step.html"
    said = one_sentence(caplog)
    assert "no such font" in said
    assert "did not start" in said
    assert said.endswith("apt-get install graphviz brings another")
    assert (tmp_path / "step.svg").read_text() == "picture"              # the old picture is whole


@pytest.mark.parametrize("name", ["step.jpeg", "step", "step.svg.gz"])
def test_other_suffixes(step: Graph, tmp_path: Path, name: str) -> None:
    with pytest.raises(GraphError, match=r"none of \.svg, \.png, \.pdf, \.dot, \.html") as e:
        draw(step, tmp_path / name)
    assert e.value.fix is not None
    assert e.value.fix.endswith(".svg")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(step: Graph, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        draw(step, tmp_path / "absent" / "step.dot")


@needs_graphviz
def test_labels_are_legible_without_a_font(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fontconfig knows no font at all, a picture is the same to the last bit: the one font that it needs comes with graphc."""
    empty = tmp_path / "fonts.conf"
    empty.write_text('<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>')
    whole = render.rendered(to_dot(step), "png").data
    monkeypatch.setenv("FONTCONFIG_FILE", str(empty))
    bare = render.rendered(to_dot(step), "png").data
    assert bare == whole
    monkeypatch.setattr(render, "FONTS", tmp_path)                       # and without ours it is another: the font is what makes the labels
    assert render.rendered(to_dot(step), "png").data != whole


def test_the_font_has_what_labels_are_made_of() -> None:
    for name in ("graphc-sans.ttf", "graphc-sans-bold.ttf"):
        data = (render.FONTS / name).read_bytes()
        have = characters(data)
        assert set(map(ord, "abcXYZ0189_[](){}<>|/.,:;=+-*'\"·→←↓↑…×≤≥∖αβγλμσΣ∂∇éüñж�")) <= have
    assert "Vera" in (render.FONTS / "LICENSE").read_text()


def characters(ttf: bytes) -> set[int]:
    """The code points of a font's cmap of format 4."""
    tables = {ttf[k:k + 4]: struct.unpack(">L", ttf[k + 8:k + 12])[0] for k in range(12, 12 + 16 * struct.unpack(">H", ttf[4:6])[0], 16)}
    cmap = tables[b"cmap"]
    for k in range(struct.unpack(">H", ttf[cmap + 2:cmap + 4])[0]):
        at = cmap + struct.unpack(">L", ttf[cmap + 8 + 8 * k:cmap + 12 + 8 * k])[0]
        if struct.unpack(">H", ttf[at:at + 2])[0] == 4:
            n = struct.unpack(">H", ttf[at + 6:at + 8])[0] // 2
            ends, starts = (struct.unpack(f">{n}H", ttf[x:x + 2 * n]) for x in (at + 14, at + 16 + 2 * n))
            return {c for a, b in zip(starts, ends) for c in range(a, b + 1)}
    raise AssertionError


@needs_graphviz
def test_text_is_centred_whatever_the_fonts_of_the_reader(step: Graph) -> None:
    made = render.rendered(to_dot(step), "svg").data
    assert made is not None
    for e in ET.fromstring(made).iter("{http://www.w3.org/2000/svg}g"):
        if e.get("class") == "node":
            texts = list(e.iter("{http://www.w3.org/2000/svg}text"))
            assert {t.get("text-anchor") for t in texts} <= {"middle"}
            assert len({t.get("x") for t in texts}) <= 1


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")
def test_an_svg_by_webassembly_alone(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = render.commands
    monkeypatch.setattr(render, "commands", lambda kind, dpi=None: [c for c in every(kind, dpi) if c[0] == "node"])
    svg = ET.parse(draw(step, tmp_path / "step.svg"))
    assert "d loss / d fc1.weight" in {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}


def test_to_graphviz(step: Graph) -> None:
    assert to_graphviz(step, title="t").source == to_dot(step, title="t")


def test_nothing_heavy_is_imported_to_make_dot_text() -> None:
    code = "import sys, graphc.viz; sys.exit(', '.join({'graphviz', 'pygraphviz', 'networkx', 'sympy'} & set(sys.modules)) or None)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, check=False).returncode == 0
