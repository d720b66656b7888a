"""What is folded and closed, and the views of kernels and memory, held against what they show."""
from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.core.dtype import f64
from graphc.core.errors import GraphError
from graphc.ir.node import Graph, Info, Node
from graphc.ir.op import REGISTRY as R
from graphc.ir.walk import topo
from graphc.loop.place import launches
from graphc.ops.leaf import input_
from graphc.viz import draw, mimebundle, render, to_dot
from graphc.viz.folding import fold
from graphc.viz.graphs import INSIDE, MOST, picture_of
from graphc.viz.kernels import written
from graphc.viz.label import nbytes_text
from graphc.viz.picture import Box, Frame, Link, Picture, close, collapsed, shrink, size


class Block(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x: Any) -> Any:
        return x + self.fc2(gx.relu(self.fc1(x)))


def lowered(layers: int, clip: bool = True) -> Any:
    """A residual perceptron's training step."""
    net = nn.Sequential(nn.Linear(6, 4), *[Block(4) for _ in range(layers)], nn.Linear(4, 3))
    criterion, optimizer = nn.CrossEntropyLoss(), optim.AdamW(net.parameters(), lr=1e-3)

    @gx.compile
    def train_step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    return train_step.lower(np.zeros((5, 6), np.float32), np.zeros((5,), np.int64))


@pytest.fixture(scope="module")
def small() -> Any:
    return lowered(1, clip=False)


@pytest.fixture(scope="module")
def large() -> Any:
    return lowered(12)


def words(picture: Picture) -> list[str]:
    return [" ".join(text for text, _ in b.rows) for b in collapsed(picture).boxes]


# ---- folding ---------------------------------------------------------------------------------------------------------------------


def test_moves_become_edges_and_functions_of_one_operand_words() -> None:
    x, w = input_(name="x", shape=(3, 4), dtype=f64), input_(name="w", shape=(5, 4), dtype=f64)
    moved = R["permute"](w, axes=(1, 0))
    y = R["contract"](x, moved, contracting=((1,), (0,)), batch=((), ()))
    row = R["reshape"](R["log"](R["reduce_sum"](R["exp"](y), axes=(1,))), shape=(3, 1))
    z = y - R["broadcast"](R["reshape"](row, shape=(3,)), shape=(3, 5), axes=(1,))
    graph = Graph((x, w), (z,))
    order = topo((*graph.leaves, *graph.roots))
    folding = fold(graph, order, True, dict.fromkeys(order, "forward"))
    assert [n.op.name for n in folding.shown] == ["input", "input", "contract", "reduce_sum", "sub"]
    assert folding.moved(y) == {moved: [1, 0]}
    assert folding.spell(z.inputs[1]) == "log(·)"
    text = to_dot(graph, expand=False)
    assert "contract ij,kj→ik" in text
    assert "reduce_sum(exp(·)) axes 1" in text
    assert "sub(·, log(·))" in text
    assert "permute" not in re.sub(r'tooltip="[^"]*"', "", text)
    assert len(fold(graph, order, False, dict.fromkeys(order, "forward")).shown) == len(order)


def test_a_name_at_the_end_of_moves_goes_to_the_box_that_they_move() -> None:
    x = input_(name="x", shape=(3, 4), dtype=f64)
    y = R["exp"](x)
    t = R["permute"](y, axes=(1, 0))
    graph = Graph((x,), (t,), (), (), {t: Info(names=frozenset({"turned"}))})
    (box,) = [b for b in picture_of(graph, expand=False).boxes if b.shape == "op"]
    assert [text for text, _ in box.rows] == ["turned", "exp", "f64[4,3]"]
    two = Graph((x,), (t, y), (), (), {t: Info(names=frozenset({"turned"}))})           # y is seen elsewhere: it stays, and so does t
    assert sum(b.shape in ("op", "small") for b in picture_of(two, expand=False).boxes) == 2


def test_each_value_has_one_typed_edge(small: Any) -> None:
    picture = picture_of(small.graph, expand=True)
    typed = [x.tail for x in picture.links if re.fullmatch(r"\w+\[[\d,]*\]", x.label)]
    assert len(typed) == len(set(typed)) > 20


def test_a_large_graph_is_folded_until_it_is_readable(large: Any) -> None:
    assert len(topo(large.graph.roots)) > 1000
    picture = picture_of(large.graph)
    assert size(picture) <= MOST
    text = words(picture)
    assert sum(bool(re.match(r"\d+ d loss / d \d+\.fc1\.weight", w)) for w in text) == 12                  # a box for each block's gradients
    assert sum("fc1.weight ←" in w for w in text) == 12
    assert any(w.startswith("AdamW lr, ") for w in text)
    assert any(w.startswith("clip_grad_norm_") for w in text)
    said = {text for f in picture.frames if f.kind == "update" and f.summary for text, _ in f.summary.rows}
    assert "clip_grad_norm_ → AdamW: exp_avg, exp_avg_sq" in said
    assert picture_of(large.graph) == picture


def test_what_is_closed_can_be_opened(small: Any) -> None:
    whole, folded = picture_of(small.graph, expand=True), picture_of(small.graph, expand=False)
    assert size(folded) < size(whole)
    states = {s.name for s in small.graph.states}
    assert {b.rows[0][0] for b in folded.boxes if b.shape == "state"} == states
    links = collapsed(folded).links
    ids = {b.id for b in collapsed(folded).boxes}
    assert {end for x in links for end in (x.tail, x.head)} <= ids
    assert not any(x.tail == x.head for x in links)


def test_close_and_shrink() -> None:
    boxes = tuple(Box(f"n{k}", f"f{k // 3}", ((str(k), "head"),)) for k in range(9))
    frames = tuple(Frame(f"f{k}", "", f"layers.{k}", "module", tip=(f"layers.{k}",)) for k in range(3))
    links = tuple(Link(f"n{k}", f"n{k + 1}") for k in range(8))
    picture = Picture("p", boxes, frames, links)
    one = collapsed(close(picture, {"f1"}))
    assert [b.id for b in one.boxes] == ["n0", "n1", "n2", "f1", "n6", "n7", "n8"]
    assert [(x.tail, x.head) for x in one.links] == [("n0", "n1"), ("n1", "n2"), ("n2", "f1"), ("f1", "n6"), ("n6", "n7"), ("n7", "n8")]
    assert shrink(picture, 9) == picture
    assert [b.id for b in collapsed(shrink(picture, 8)).boxes] == ["f0", "f1", "f2"]                        # layers that differ in numbers go together
    assert size(shrink(picture, 1)) == 3                                                                    # no more can be done
    assert size(shrink(picture, 9, inside=2)) == 3


# ---- views of a graph ------------------------------------------------------------------------------------------------------------


def test_modules(large: Any) -> None:
    picture = picture_of(large.graph, "modules")
    text = words(picture)
    assert len(text) == 12 + 3 + 2                                      # blocks; first, last and criterion; x and y
    assert sum("fc1.weight f32[8,4]" in w for w in text) == 12
    assert not any("d loss" in w or "←" in w for w in text)


def test_forward(small: Any) -> None:
    text = " | ".join(words(picture_of(small.graph, "forward", expand=True)))
    assert "contract" in text
    assert "1.fc1.weight" in text
    assert "d loss" not in text
    assert "new value" not in text
    assert "lr" not in text.split()


@pytest.mark.parametrize("view", ["lanes", "modules", "forward", "kernels", "memory"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_in_every_theme_is_well_formed(small: Any, view: str, theme: str) -> None:
    made = render.rendered(to_dot(small, view=view, theme=theme), "svg")
    if made.data is None:
        pytest.skip(made.why)
    fills = {e.get("fill") for e in ET.fromstring(made.data).iter()}
    assert ("#14191f" in fills) == (theme == "dark")


def test_unknown_views_and_themes(small: Any, tmp_path: Path) -> None:
    for options, said in (({"view": "side"}, "no view 'side'"), ({"theme": "pink"}, "no theme 'pink'")):
        with pytest.raises(GraphError, match=said) as e:
            draw(small, tmp_path / "a.dot", **options)      # type: ignore[arg-type]
        assert e.value.fix
    for view in ("kernels", "memory"):
        with pytest.raises(GraphError, match="compiled to"):
            draw(small.graph, tmp_path / "a.dot", view=view)

    @gx.compile(backend="numpy")
    def f(x: Any) -> Any:
        return x * 2.0

    with pytest.raises(GraphError, match='"numpy" has no memory'):
        draw(f.lower(np.zeros(3, np.float32)), tmp_path / "a.dot", view="memory")
    assert not list(tmp_path.iterdir())


# ---- views of a compiled step ----------------------------------------------------------------------------------------------------


def test_kernels(small: Any) -> None:
    dot = to_dot(small, view="kernels")
    native = small.executable()
    runs = list(launches(native.plan))
    assert len(re.findall(r"^ *k\d+ \[", dot, re.M)) == len(runs)
    for k, launch in enumerate(runs):
        line = re.search(rf"^ *k{k + 1} \[.*$", dot, re.M)
        assert line
        assert launch.kernel.name.partition("_")[2] in line[0]
        for name in launch.kernel.origin:
            assert name in dot
    writers = {ref.region.name: f"k{k + 1}" for k, launch in enumerate(runs) for buf, ref in zip(launch.kernel.buffers, launch.args)
               if buf.name in written(launch) and ref.region.where == "arena"}
    links = {frozenset(pair) for pair in re.findall(r"^ *(k\d+) -> (k\d+) \[", dot, re.M)}
    for k, launch in enumerate(runs):                                   # whoever reads an arena buffer has a link from its only writer
        for buf, ref in zip(launch.kernel.buffers, launch.args):
            writer = writers.get(ref.region.name)
            if writer is not None and buf.name not in written(launch) and int(writer[1:]) < k + 1:
                assert frozenset((writer, f"k{k + 1}")) in links
    for s in small.graph.states:
        assert any(f"writes {s.name}" in m or f" {s.name}" in m for m in re.findall(r"tooltip=\"([^\"]*)\"", dot))


def test_memory(small: Any) -> None:
    dot = to_dot(small, view="memory")
    lives = small.executable().lives
    bars = re.findall(r'^ *b\d+ \[.*pos="([\d.]+),([\d.]+)", width="([\d.]+)", height="([\d.]+)"', dot, re.M)
    assert len(bars) == len(lives)
    boxes = [(float(x) - 36 * float(w), float(x) + 36 * float(w), float(y) - 36 * float(h), float(y) + 36 * float(h)) for x, y, w, h in bars]
    total = max(x.region.offset + x.region.nbytes for x in lives)
    for a, life in zip(boxes, sorted(lives, key=lambda x: (x.first, x.region.offset))):
        assert abs(a[2] - 460 * life.region.offset / total) < 0.1
    assert nbytes_text(total) in dot


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (999, "999 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (106_368, "103.9 KiB"),
                                         (1 << 30, "1 GiB")])
def test_nbytes_text(n: int, text: str) -> None:
    assert nbytes_text(n) == text


# ---- notebooks -------------------------------------------------------------------------------------------------------------------


def test_a_notebook_gets_a_picture_or_a_page(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "renderers", lambda kind="svg": [])
    made = small._repr_mimebundle_()
    assert set(made) == {"text/html", "text/plain"}
    assert made["text/html"].startswith("<iframe srcdoc=")
    assert made["text/html"].count("<") == 2                            # what is inside is escaped
    monkeypatch.undo()
    if render.renderers():
        made = mimebundle(small)
        assert set(made) == {"image/svg+xml", "text/plain"}
        ET.fromstring(made["image/svg+xml"])


def test_a_compiled_function_draws_its_last_call(tmp_path: Path) -> None:
    @gx.compile
    def f(x: Any) -> Any:
        return x * 2.0

    f(np.zeros(3, np.float32))
    assert f.draw(tmp_path / "f.dot").read_text() == to_dot(f.lowered)


def test_an_op_that_makes_nothing_of_one_operand_stays_a_box() -> None:
    x = input_(name="x", shape=(3,), dtype=f64)
    y: Node = R["exp"](x)
    shared = Graph((x,), (y + y * x,))                                  # read twice: a box
    assert sum("exp" in w for w in words(picture_of(shared, expand=False))) == 1
    assert INSIDE > 3
