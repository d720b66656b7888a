"""Blocks of straight-line code made one, in turns: line by line, each line as early as what it uses allows.

A block is a chain of some hundred instructions, each waiting for the one before. One after another, two such blocks keep a machine waiting that looks
no farther ahead than it can hold instructions; in turns they fill each other's gaps, and a constant that both use is loaded once.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

LONG = 24                                                       # lines of a block: a chain worth hiding
_NAMES = re.compile(r"%[\w.]+")


def worthwhile(blocks: Sequence[Sequence[str]]) -> bool:
    """Several long blocks without labels and branches."""
    return len(blocks) > 1 and all(len(b) >= LONG and not any(x.endswith(":") or x.startswith("  br ") for x in b) for b in blocks)


def in_turns(blocks: Sequence[Sequence[str]]) -> list[str]:
    """The lines of all blocks. A block may use what an earlier one defines; the order within a block stays."""
    waiting = {x.split(maxsplit=1)[0] for b in blocks for x in b if " = " in x}
    at, out = [0] * len(blocks), list[str]()
    while any(k < len(b) for k, b in zip(at, blocks, strict=True)):
        for n, b in enumerate(blocks):
            if at[n] == len(b):
                continue
            line = b[at[n]]
            name, _, text = line.partition(" = ") if " = " in line else ("", "", line)
            if waiting.isdisjoint(_NAMES.findall(text)):
                waiting.discard(name.strip())
                out.append(line)
                at[n] += 1
    return out
