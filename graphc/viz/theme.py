"""How the pictures look: a colour for each family of ops, for each lane, for each kind of edge. Data only.

Fills are tints of Paul Tol's and of Okabe and Ito's palettes, which the common kinds of colour blindness keep apart; strokes are the same hues,
darker. No colour carries a meaning alone: the op's name, the shape, the dashes and the lane say it too.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FONT = "Helvetica,DejaVu Sans,sans-serif"
INK, QUIET, PAPER = "#1f2933", "#6b7785", "#ffffff"
PHASES = ("forward", "backward", "update")


@dataclass(frozen=True, slots=True)
class Paint:
    """The look of a box."""

    fill: str
    stroke: str
    small: bool = False                                 # ops that only rearrange step back


@dataclass(frozen=True, slots=True)
class Lane:
    """The look of a phase: its background and frame, and the edges that leave its nodes."""

    title: str
    fill: str
    stroke: str
    edge: str


ELEMENTWISE = Paint("#d9f0ea", "#3f9a83")
CHOICE = Paint("#efe3f4", "#8f69a6")
MOVES = Paint("#f2f3f4", "#b4bac1", small=True)
FAMILY: Mapping[str, Paint] = {
    "leaf": Paint("#ffffff", "#8a95a1", small=True),
    "unary": ELEMENTWISE,
    "binary": ELEMENTWISE,
    "compare": CHOICE,
    "select": CHOICE,
    "cast": MOVES,
    "movement": MOVES,
    "tuple": MOVES,
    "reduce": Paint("#fde4cf", "#cf7a38"),
    "contract": Paint("#cfe2f5", "#3a76b0"),
    "linalg": Paint("#cfe2f5", "#3a76b0"),
    "index": Paint("#fbe0e8", "#bf5b80"),
    "random": Paint("#f1efc4", "#96912f"),
    "control": Paint("#dfe0f7", "#5f63b5"),
    "effect": Paint("#ffffff", "#bf4040"),
}
PLAIN = Paint("#ffffff", "#8a95a1")                     # a family this table has not heard of
INPUT = Paint("#ffffff", "#5b6b7f")
STATE = Paint("#fff3c9", "#b08d1e")

LANES: Mapping[str, Lane] = {
    "forward": Lane("forward  ↓", "#f6f9fc", "#d3dfeb", "#54708f"),
    "backward": Lane("backward  ↑", "#fdf7f2", "#efdccb", "#c8642b"),
    "update": Lane("update  ↓", "#f4faf6", "#cfe5d8", "#2f8a6b"),
}
KEPT = "#b3bfcb"                                        # from one lane to a later one: an activation kept, a parameter read again
FRAME = "#b9c3cd"                                       # around a module
