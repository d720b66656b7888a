"""Files: each format by whatever renderer there is, and the DOT text with one sentence where there is none, or it is slow, or it fails."""
from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from graphc.core.errors import GraphError
from graphc.ir.node import Graph
from graphc.viz import draw, render, to_dot, to_graphviz, to_html
from graphc.viz.theme import FONT

HERE = {r.name: r for r in render.renderers()}
needs_wheels = pytest.mark.skipif(not (render.has("py_mini_racer") and render.has("resvg_py")), reason="needs the extra `viz`")


def fake(name: str, code: str) -> render.Renderer:
    """A renderer that is a line of Python."""
    return render.Renderer(name, [sys.executable, "-c", code])


def only(monkeypatch: pytest.MonkeyPatch, *found: render.Renderer) -> None:
    monkeypatch.setattr(render, "renderers", lambda kind="svg": list(found))


@needs_wheels
@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG\r\n"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_each_format(step: Graph, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = draw(step, tmp_path / f"step{suffix}")
    assert path == tmp_path / f"step{suffix}"
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]           # nothing else is left


def test_dot_needs_no_renderer(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "renderers", lambda kind="svg": pytest.fail("asked for a renderer"))
    path = draw(step, str(tmp_path / "step.dot"), title="a title")
    assert path.read_text(encoding="utf-8") == to_dot(step, title="a title")
    assert "a title" in path.read_text(encoding="utf-8")


@needs_wheels
def test_the_svg_says_what_is_in_it(step: Graph, tmp_path: Path) -> None:
    svg = ET.parse(draw(step, tmp_path / "step.svg"))
    texts = {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"train_step", "d loss / d fc1.weight", "fc2.bias", "fc2.bias ←", "update: momentum", "maximum(·, 0)", "contract ij,kj→ik", "f32[6,7]"} <= texts
    titles = {v for e in svg.iter() for k, v in e.attrib.items() if k.endswith("title")}
    assert any("train.py:12 in Net.forward" in t for t in titles)


@needs_wheels
def test_hostile_strings_come_out_as_text(hostile: Graph, tmp_path: Path) -> None:
    svg = ET.parse(draw(hostile, tmp_path / "hostile.svg", expand=True))
    tags = {e.tag.rpartition("}")[2] for e in svg.iter()}
    assert tags <= {"svg", "g", "title", "a", "polygon", "path", "text", "ellipse", "polyline"}
    texts = {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {'"', "a∖", "∖N∖G∖l", "a b c", "<script>alert(1)</script>", "😀👩‍👩‍👧", "&lt;&amp;", "]]>", "{a|b}", "%s%n", "<b>", "-->"} <= texts
    links = {v for e in svg.iter() for k, v in e.attrib.items() if k.endswith("href")}
    assert not links


@needs_wheels
def test_lanes_stand_from_left_to_right(step: Graph, loop: Graph) -> None:
    for graph in (step, loop):
        made = render.rendered(to_dot(graph, expand=True), "svg").data
        assert made is not None
        boxes = {}
        for e in ET.fromstring(made).iter("{http://www.w3.org/2000/svg}a"):
            lane = e.get("{http://www.w3.org/1999/xlink}title")
            if lane in ("forward", "backward", "update"):
                xy = re.findall(r"(-?[\d.]+),(-?[\d.]+)", e[0].attrib["d"])
                boxes[lane] = [f(float(p[k]) for p in xy) for f in (min, max) for k in (0, 1)]
        assert boxes["forward"][2] < boxes["backward"][0]
        assert boxes["backward"][2] < boxes["update"][0]
        assert len({box[1] for box in boxes.values()}) == 1              # tops in a row


def one_sentence(caplog: pytest.LogCaptureFixture) -> str:
    assert [r.name for r in caplog.records] == ["graphc"]
    assert caplog.records[0].levelno == logging.WARNING
    text = caplog.records[0].getMessage()
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_without_graphviz(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(render, "has", lambda module: False)
    path = draw(step, tmp_path / f"step{suffix}")
    assert path == tmp_path / "step.html"
    assert path.read_text(encoding="utf-8") == to_html(step, theme="light")
    said = one_sentence(caplog)
    assert re.search(r"wrote .*step\.html, which any browser opens, in the place of step\.\w+: there is no renderer here; ", said)
    assert said.count('pip install "graphc[viz]"') == said.count("install") == 1                       # one command
    assert [p.name for p in tmp_path.iterdir()] == ["step.html"]


def test_a_slow_renderer_is_stopped(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    only(monkeypatch, fake("dot", "import time; time.sleep(60)"))
    start = time.monotonic()
    path = draw(step, tmp_path / "step.svg", timeout=0.3, expand=True)
    assert time.monotonic() - start < 20
    assert path == tmp_path / "step.html"
    assert "dot took more than 0.3 s" in one_sentence(caplog)


def test_what_takes_too_long_is_drawn_folded(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    slow_if_whole = "import sys, time; dot = sys.stdin.read(); time.sleep(60 if 'broadcast</font>' in dot else 0); print(dot.count('\\n'))"
    only(monkeypatch, fake("dot", slow_if_whole))
    path = draw(step, tmp_path / "step.svg", timeout=2.0, expand=True)
    assert path == tmp_path / "step.svg"
    assert int(path.read_text()) == to_dot(step, expand=False).count("\n")
    assert re.search(r"drew step\.svg folded, for dot took more than 2 s", one_sentence(caplog))


def test_a_renderer_that_fails_gives_way_to_the_next(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    failing = [fake("crash", "import os; os.abort()"), fake("words", "import sys; sys.exit('no such font')"),
               render.Renderer("absent", [str(tmp_path / "absent")]), fake("bytes", "import sys; sys.stdout.buffer.write(bytes([255]))")]
    only(monkeypatch, *failing, fake("other", "import sys; sys.stdout.write('picture')"))
    assert draw(step, tmp_path / "step.svg").read_text() == "picture"
    assert not caplog.records
    only(monkeypatch, *failing)
    assert draw(step, tmp_path / "step.svg") == tmp_path / "step.html"
    said = one_sentence(caplog)
    assert "no such font" in said
    assert "absent did not start" in said
    assert said.endswith('pip install "graphc[viz]" brings another')
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


@needs_wheels
def test_a_picture_is_the_same_where_there_is_not_one_font(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = render.rendered(to_dot(step), "png").data
    (tmp_path / "fonts.conf").write_text('<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig></fontconfig>')
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    assert render.rendered(to_dot(step), "png").data == whole
    monkeypatch.setattr(render, "FONTS", tmp_path)                       # and without ours it is another: the font is what makes the labels
    assert render.rendered(to_dot(step), "png").data != whole


@pytest.mark.parametrize("name", ["mini-racer", "dot", "node"])
def test_each_renderer_alone(step: Graph, hostile: Graph, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name not in HERE:
        pytest.skip(f"no {name} here")
    only(monkeypatch, HERE[name])
    for graph, word in ((step, "d loss / d fc1.weight"), (hostile, "<script>alert(1)</script>")):
        first, again = (render.rendered(to_dot(graph), "svg") for _ in range(2))
        assert first.data is not None, first.why
        assert first.data == again.data
        svg = ET.fromstring(first.data)
        assert word in {e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert {e.get("font-family") for e in svg.iter("{http://www.w3.org/2000/svg}text")} == {FONT}


@pytest.mark.skipif(not {"mini-racer", "node"} <= HERE.keys(), reason="needs the extra `viz` and Node.js")
def test_every_engine_lays_out_alike(step: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("mini-racer", "node"):
        only(monkeypatch, HERE[name])
        made.append(render.rendered(to_dot(step), "svg").data)
    assert made[0] == made[1]


@needs_wheels
def test_a_module_in_the_working_folder_is_not_taken_for_a_renderer(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("py_mini_racer", "resvg_py", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not me')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    only(monkeypatch, HERE["mini-racer"])
    assert render.rendered(to_dot(step), "png").data is not None


def test_a_large_picture_has_fewer_dots() -> None:
    svg = b'<svg width="%dpt" height="%dpt" viewBox="0 0 9 9"><path d="M0,0L9,9"/></svg>'
    assert render._width(svg % (300, 400)) == 300 * render.SHARP / 72
    assert render._width(svg % (36_000, 27_000)) ** 2 * 3 / 4 == pytest.approx(render.PIXELS, rel=1e-3)


def test_to_graphviz(step: Graph) -> None:
    assert to_graphviz(step, title="t").source == to_dot(step, title="t")


def test_nothing_heavy_is_imported_to_make_dot_text() -> None:
    code = "import sys, graphc.viz; sys.exit(', '.join({'graphviz', 'py_mini_racer', 'resvg_py', 'networkx', 'sympy'} & set(sys.modules)) or None)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, check=False).returncode == 0
