"""A TrueType font, as far as a PDF asks: which glyph is a character, how wide it is, and the file without the outlines that are not used.

Read after Apple's TrueType Reference Manual: tables head, hhea, hmtx, cmap (format 4), loca, glyf.
"""
from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterable
from functools import cached_property, lru_cache

KEPT = (b"cvt ", b"fpgm", b"glyf", b"head", b"hhea", b"hmtx", b"loca", b"maxp", b"prep")      # what a PDF reader needs of an embedded font
WORDS, MORE, SCALE, SCALES, MATRIX = 0x1, 0x20, 0x8, 0x40, 0x80                                  # flags of a part of a composite glyph


class Font:
    """A font file in memory. Lengths are in thousandths of the font's size, as in PDF."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        count, = struct.unpack_from(">H", data, 4)
        records = (struct.unpack_from(">4sLLL", data, 12 + 16 * k) for k in range(count))
        self.tables = {tag: data[at:at + size] for tag, _, at, size in records}
        self.em: int = struct.unpack_from(">H", self.tables[b"head"], 18)[0]
        self.box = tuple(self._thousandths(v) for v in struct.unpack_from(">4h", self.tables[b"head"], 36))
        self.ascent, self.descent = (self._thousandths(v) for v in struct.unpack_from(">2h", self.tables[b"hhea"], 4))

    def _thousandths(self, length: int) -> int:
        return round(length * 1000 / self.em)

    @cached_property
    def glyphs(self) -> dict[str, int]:
        """character → glyph"""
        cmap = self.tables[b"cmap"]
        offsets = (struct.unpack_from(">L", cmap, 8 + 8 * k)[0] for k in range(struct.unpack_from(">H", cmap, 2)[0]))
        at = next(at for at in offsets if cmap[at:at + 2] == b"\0\4")
        n = struct.unpack_from(">H", cmap, at + 6)[0] // 2
        ends, starts, deltas, ranges = (struct.unpack_from(f">{n}H", cmap, at + 14 + 2 * n * k + (2 if k else 0)) for k in range(4))
        out = {}
        for k, (first, last, delta, far) in enumerate(zip(starts, ends, deltas, ranges, strict=True)):
            for c in range(first, min(last, 0xFFFE) + 1):
                glyph = c if not far else struct.unpack_from(">H", cmap, at + 16 + 6 * n + 2 * k + far + 2 * (c - first))[0]
                if glyph and (glyph := (glyph + delta) % 0x10000):
                    out[chr(c)] = glyph
        return out

    @cached_property
    def widths(self) -> list[int]:
        """Of the first glyphs; the rest are as wide as the last of these."""
        n, = struct.unpack_from(">H", self.tables[b"hhea"], 34)
        return [self._thousandths(v) for v in struct.unpack_from(">" + "Hh" * n, self.tables[b"hmtx"])[::2]]

    def width(self, glyph: int) -> int:
        return self.widths[min(glyph, len(self.widths) - 1)]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Where in glyf each outline begins, and the last ends."""
        loca, short = self.tables[b"loca"], self.tables[b"head"][50:52] == b"\0\0"
        return tuple(2 * v for v in struct.unpack(f">{len(loca) // 2}H", loca)) if short else struct.unpack(f">{len(loca) // 4}L", loca)

    def outline(self, glyph: int) -> bytes:
        return self.tables[b"glyf"][self.places[glyph]:self.places[glyph + 1]]

    def parts(self, glyph: int) -> set[int]:
        """The glyphs that a composite one is made of."""
        outline, out, at, more = self.outline(glyph), set[int](), 10, True
        if outline[:2] != b"\xff\xff":
            return out
        while more:
            flags, part = struct.unpack_from(">2H", outline, at)
            out |= {part, *self.parts(part)}
            at += 4 + (4 if flags & WORDS else 2) + (2 if flags & SCALE else 4 if flags & SCALES else 8 if flags & MATRIX else 0)
            more = bool(flags & MORE)
        return out

    def subset(self, glyphs: Iterable[int]) -> bytes:
        """The font with these outlines only. Glyphs keep their numbers."""
        used = {0, *glyphs}
        used |= {part for glyph in used for part in self.parts(glyph)}
        glyf, loca = bytearray(), [0]
        for glyph in range(len(self.places) - 1):
            if glyph in used:
                glyf += self.outline(glyph)
                glyf += bytes(-len(glyf) % 4)
            loca.append(len(glyf))
        head = self.tables[b"head"]
        tables = self.tables | {b"glyf": bytes(glyf), b"loca": struct.pack(f">{len(loca)}L", *loca), b"head": head[:50] + b"\0\1" + head[52:]}
        kept = {tag: tables[tag] for tag in KEPT if tag in tables}
        power = len(kept).bit_length() - 1
        out = bytearray(struct.pack(">4s4H", b"\0\1\0\0", len(kept), 16 << power, power, 16 * len(kept) - (16 << power)))
        at = 12 + 16 * len(kept)
        for tag, table in kept.items():
            padded = table + bytes(-len(table) % 4)
            out += struct.pack(">4sLLL", tag, sum(struct.unpack(f">{len(padded) // 4}L", padded)) & 0xFFFFFFFF, at, len(table))
            at += len(padded)
        for table in kept.values():
            out += table + bytes(-len(table) % 4)
        return bytes(out)


@lru_cache(maxsize=8)
def read(path: pathlib.Path) -> Font:
    return Font(path.read_bytes())
