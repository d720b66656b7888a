"""How the pictures look: a colour for each family of ops, for each lane, for each kind of edge, in a light and in a dark theme. Data only.

Fills are tints of Paul Tol's and of Okabe and Ito's palettes, which the common kinds of colour blindness keep apart; strokes are the same hues,
darker. No colour carries a meaning alone: the op's name, the shape, the dashes and the lane say it too.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..core.errors import GraphError

FONT = "graphc Sans,Helvetica,Arial,sans-serif"         # the first comes with graphc, see `render`
PHASES = ("forward", "backward", "update")
TITLES: Mapping[str, str] = {"forward": "forward ↓", "backward": "backward ↑", "update": "update"}

Theme = Mapping[str, str]                               # role → colour
Paint = Literal["elementwise", "choice", "moves", "leaf", "reduce", "contract", "index", "random", "control", "effect", "plain", "input", "state",
                "module", "paper"]

FAMILY: Mapping[str, Paint] = {
    "leaf": "leaf", "unary": "elementwise", "binary": "elementwise", "compare": "choice", "select": "choice", "cast": "moves", "movement": "moves",
    "tuple": "moves", "reduce": "reduce", "contract": "contract", "linalg": "contract", "index": "index", "random": "random", "control": "control",
    "effect": "effect",
}
SMALL = ("moves", "leaf")                               # what only rearranges steps back

_PAINTS: Mapping[str, tuple[str, str, str, str]] = {    # fill and stroke by day, fill and stroke by night
    "elementwise": ("#d9f0ea", "#3f9a83", "#173a33", "#4fb39a"),
    "choice": ("#efe3f4", "#8f69a6", "#35253f", "#ad86c4"),
    "moves": ("#f2f3f4", "#b4bac1", "#262c33", "#5c6670"),
    "leaf": ("#ffffff", "#8a95a1", "#1d232a", "#7b8794"),
    "reduce": ("#fde4cf", "#cf7a38", "#452a14", "#d98c4f"),
    "contract": ("#cfe2f5", "#3a76b0", "#15304d", "#5b9ad6"),
    "index": ("#fbe0e8", "#bf5b80", "#44202d", "#d27a9a"),
    "random": ("#f1efc4", "#96912f", "#37350f", "#b3ae4b"),
    "control": ("#dfe0f7", "#5f63b5", "#262853", "#8287dd"),
    "effect": ("#ffffff", "#bf4040", "#1d232a", "#e06a6a"),
    "plain": ("#ffffff", "#8a95a1", "#1d232a", "#7b8794"),
    "input": ("#ffffff", "#5b6b7f", "#1d232a", "#94a5b8"),
    "state": ("#fff3c9", "#b08d1e", "#3d330d", "#cdaa3a"),
    "module": ("#e6edf4", "#7f95ab", "#22303f", "#6f879f"),
    "paper": ("#ffffff", "#b9c3cd", "#14191f", "#4a545f"),
}
_LANES: Mapping[str, tuple[str, str, str, str, str, str]] = {       # fill, frame and edges by day, and by night
    "forward": ("#f5f8fb", "#d3dfeb", "#54708f", "#171e26", "#2c3a49", "#86a3c3"),
    "backward": ("#fdf6f0", "#efdccb", "#c8642b", "#221a15", "#46352a", "#e58a52"),
    "update": ("#f3f9f5", "#cfe5d8", "#2f8a6b", "#15201b", "#294035", "#57b893"),
}


def _theme(night: int) -> Theme:
    roles = {"ink": ("#1f2933", "#e8edf2")[night], "quiet": ("#66727f", "#9aa7b4")[night], "paper": ("#ffffff", "#14191f")[night],
             "kept": ("#aebbc8", "#55626f")[night], "frame": ("#b9c3cd", "#47525d")[night]}
    for name, tints in _PAINTS.items():
        roles[f"{name}.fill"], roles[f"{name}.stroke"] = tints[2 * night:2 * night + 2]
    for name, tints in _LANES.items():
        roles[f"{name}.lane"], roles[f"{name}.border"], roles[f"{name}.edge"] = tints[3 * night:3 * night + 3]
    return roles


LIGHT, DARK = _theme(0), _theme(1)
PAGE: Theme = {role: f"#{k + 1:06x}" for k, role in enumerate(LIGHT)}     # a number for each role: the page puts variables in their places
THEMES: Mapping[str, Theme] = {"light": LIGHT, "dark": DARK}


def theme_named(name: str) -> Theme:
    if name not in THEMES:
        raise GraphError(f"there is no theme {name!r}", fix=f"theme={' or '.join(repr(t) for t in THEMES)}")
    return THEMES[name]
