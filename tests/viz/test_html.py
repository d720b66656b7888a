"""The page: one file, no network, no markup from strings; and, where there is a Chromium, that it draws itself, opens and closes and finds."""
from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graphc.ir.node import Graph
from graphc.viz import draw, to_html
from graphc.viz.graphs import picture_of
from graphc.viz.html import data

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-features=NetworkTimeServiceQuerying,OptimizationHints,MediaRouter", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--disable-default-apps", "--disable-extensions", "--window-size=1400,900"]


def of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])     # type: ignore[index]
    return found


def test_one_file_with_all_it_needs(step: Graph, tmp_path: Path) -> None:
    path = draw(step, tmp_path / "step.html")
    page = path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["step.html"]
    assert page == to_html(step, theme="light") == to_html(step, theme="light")
    own = re.sub(r"<script>\n/\* Graphviz.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?://(?!www\.w3\.org/)", own)
    assert not re.search(r"""(?:src|href)\s*=\s*["'`]|@import|\bfetch\(|XMLHttpRequest|import\(""", own)
    assert {m for m in re.findall(r"url\(([a-z]+:)", own)} == {"data:"}
    assert "default-src 'none'" in page
    assert "sourceMappingURL" not in page
    assert not re.search(r"@[A-Z]+@", own)                              # every place is filled
    assert "Apache-2.0" in page


def test_themes(step: Graph) -> None:
    assert '<html lang="en">' in to_html(step)                          # the reader's
    for theme in ("light", "dark"):
        assert f'<html lang="en" data-theme="{theme}">' in to_html(step, theme=theme)


def test_the_data_are_the_whole_graph(step: Graph) -> None:
    d = of(to_html(step, expand=True))
    words = [b["words"] for b in d["boxes"]]
    for name in ("x", "fc1.weight", "d loss / d fc2.bias", "loss", "train.py:12 in Net.forward"):
        assert any(name in w for w in words)
    assert {(f["title"], f["kind"]) for f in d["frames"]} >= {("fc1", "module"), ("criterion", "module"), ("fc1.bias", "update"), ("for all", "shared")}
    ids = {b["id"] for b in d["boxes"]}
    assert {x[end] for x in d["links"] for end in ("tail", "head")} <= ids
    assert any(not f["closed"] for f in d["frames"])
    folded = of(to_html(step, expand=False))
    assert {f["title"] for f in folded["frames"] if f["closed"]} >= {"fc1.weight", "for all"}


def test_hostile_strings_are_data(hostile: Graph) -> None:
    page = to_html(hostile)
    assert page.count("<script") == 3                                   # the data, Graphviz, and the page's own
    assert page.count("</script") == 3
    assert "<script>alert" not in page
    d = of(page)
    assert any("<script>alert(1)</script>" in b["words"] for b in d["boxes"])
    assert len(page) < len(to_html(Graph((), ()))) + 300_000            # 10,000 characters do not come along


def test_every_link_survives_closing(step: Graph) -> None:
    """`data` says of each link what the script needs to know to close frames as `collapsed` does."""
    picture = picture_of(step, expand=True)
    d = data(picture)
    assert len(d["links"]) == len(picture.links)
    labelled = [x for x in d["links"] if "label=" in x["look"]]
    assert labelled
    assert not any("label=" in x["bare"] for x in d["links"])


# ---- in a browser ----------------------------------------------------------------------------------------------------------------

_DRIVER = """
<script>
(async () => {
  const said = { errors: [], violations: [] };
  addEventListener("error", (e) => said.errors.push(String(e.message)));
  addEventListener("unhandledrejection", (e) => said.errors.push(String(e.reason)));
  addEventListener("securitypolicyviolation", (e) => said.violations.push(e.blockedURI));
  const pause = (ms) => new Promise((go) => setTimeout(go, ms));
  const drawn = async (n) => { for (let k = 0; k < 400 && Number(document.body.dataset.drawn || 0) < n; ++k) await pause(25); };
  const ids = (what) => [...document.querySelectorAll("main ." + what)].map((e) => e.dataset.id).sort();
  const look = () => ({ nodes: ids("node"), clusters: ids("cluster"), edges: ids("edge"),
                        texts: [...document.querySelectorAll("main text")].map((e) => e.textContent) });
  await drawn(1);
  said.first = look();
  const box = document.querySelector("main .node").getBoundingClientRect();
  said.visible = box.width > 5 && box.height > 5 && box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
  said.ink = getComputedStyle(document.querySelector("main .node text")).fill;
  const frame = JSON.parse(document.getElementById("data").textContent).frames.find((f) => f.title === "@FRAME@" && f.kind === "module");
  said.frame = frame.id;
  const click = (e) => e.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  click(document.querySelector(`main .cluster[data-id="${frame.id}"] text`));
  await drawn(2);
  said.closed = look();
  click(document.querySelector(`main .node[data-id="${frame.id}"] text`));
  await drawn(3);
  said.opened = look();
  const search = document.getElementById("search");
  search.value = "fc2.weight";
  search.dispatchEvent(new Event("input"));
  said.found = document.getElementById("found").textContent;
  said.hits = document.querySelectorAll("main .hit").length;
  search.value = "";
  search.dispatchEvent(new Event("input"));
  const hit = document.querySelector("main .node text");
  hit.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50, pointerId: 1 }));
  said.tip = document.getElementById("tip").textContent;
  document.getElementById("night").click();
  said.night = getComputedStyle(hit).fill;
  document.getElementById("open").click();
  await drawn(4);
  said.all = look();
  said.resources = performance.getEntriesByType("resource").map((e) => e.name.slice(0, 40)).filter((n) => !n.startsWith("data:"));
  const out = document.createElement("pre");
  out.id = "said";
  out.textContent = JSON.stringify(said);
  document.getElementById("said").replaceWith(out);
  document.title = "done";
})();
</script>
</body>"""


def browse(page: str, folder: Path, frame: str) -> tuple[dict[str, Any], set[str]]:
    """What the page says after it was used, and the hosts that it asked for."""
    assert CHROMIUM is not None
    path, log = folder / "page.html", folder / "net.json"
    path.write_text(page.replace("</body>", _DRIVER.replace("@FRAME@", frame)), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=60000", "--dump-dom", path.as_uri()]
    made = subprocess.run(command, capture_output=True, timeout=100, check=True).stdout.decode()
    found = re.search(r'<pre id="said">(.*?)</pre>', made, re.DOTALL)
    assert found is not None, made[-2000:]
    asked = set(re.findall(r'"url":"(?:https?|wss?|ftp)://([^/"]*)', log.read_text(encoding="utf-8", errors="replace")))
    asked = {host for host in asked if not host.endswith((".google.com", ".googleapis.com", ".gvt1.com"))}        # the browser's own
    said: dict[str, Any] = json.loads(html.unescape(found[1]))
    return said, asked


@needs_chromium
def test_in_a_browser(step: Graph, tmp_path: Path) -> None:
    said, asked = browse(to_html(step, expand=False, theme="light"), tmp_path, "fc1")
    assert said["errors"] == said["violations"] == said["resources"] == []
    assert not asked
    assert said["visible"]
    first, closed, opened, frame = said["first"], said["closed"], said["opened"], said["frame"]
    assert "fc1.weight" in first["texts"]
    assert frame in first["clusters"]
    assert frame not in first["nodes"]
    assert frame in closed["nodes"]                                     # the module is one box now
    assert frame not in closed["clusters"]
    assert len(closed["nodes"]) < len(first["nodes"])
    assert opened == first
    assert said["found"] == f"{said['hits']} found"
    assert said["hits"] > 1
    assert said["tip"]
    assert said["ink"] == "rgb(31, 41, 51)"
    assert said["night"] == "rgb(232, 237, 242)"
    picture = picture_of(step, expand=False)
    unseen = {b.id for b in picture.boxes if b.shape == "unseen"}
    assert set(said["all"]["nodes"]) - unseen == {b.id for b in picture.boxes} - unseen      # with all open, every box


@needs_chromium
def test_the_page_closes_as_python_does(step: Graph, tmp_path: Path) -> None:
    from graphc.viz.picture import UNSEEN, collapsed

    picture = picture_of(step, expand=False)
    said, _ = browse(to_html(step, expand=False), tmp_path, "fc1")
    want = collapsed(picture)
    assert set(said["first"]["nodes"]) >= {b.id for b in want.boxes if b.shape != "unseen"}
    drawn = {f"{x.head}->{x.tail}" if x.up else f"{x.tail}->{x.head}" for x in want.links if x.kind not in UNSEEN}
    assert drawn <= set(said["first"]["edges"])
    invisible = {f"{x.tail}->{x.head}" for x in want.links if x.kind in UNSEEN}
    assert set(said["first"]["edges"]) <= drawn | invisible | {"->".join(pair) for row in picture.ranks for pair in pairwise(row)}


@needs_chromium
def test_a_hostile_page_in_a_browser(hostile: Graph, tmp_path: Path) -> None:
    said, asked = browse(to_html(hostile, expand=True), tmp_path, "subgraph")
    assert said["errors"] == said["violations"] == []
    assert not asked
    assert {"<script>alert(1)</script>", "]]>", "{a|b}", "</font></b>"} <= set(said["first"]["texts"])
