"""Damage to the bytes of a file, the same for the same seed: flipped, lost, doubled and overwritten parts, and numbers in headers made absurd."""
from __future__ import annotations

import random
import re

ABSURD = (0, 1, 7, 0x7F, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 1)


def damaged(data: bytes, seed: int) -> bytes:
    """`data` with one to three damages, mostly near the beginning or the end, where the headers are."""
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        n = len(out)
        if n == 0:
            return bytes(out)
        near = rng.choice((n, n, min(n, 400), min(n, 24)))
        at = rng.randrange(near) if rng.random() < 0.75 else n - 1 - rng.randrange(near)
        length = min(n - at, 1 + int(rng.expovariate(0.1)))
        match rng.randrange(9):
            case 0: out[at] ^= 1 << rng.randrange(8)
            case 1: out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2: del out[at:]
            case 3: del out[at:at + length]
            case 4: out[at:at] = bytes(rng.randrange(256) for _ in range(length))
            case 5: out[at:at] = out[at:at + length]
            case 6: out[at:at + length] = bytes(length)
            case 7:
                size = rng.choice((1, 2, 4, 8))
                word = (rng.choice(ABSURD) % 256**size).to_bytes(size, rng.choice(("little", "big")))
                out[at:at + size] = word
            case 8:
                numbers = list(re.finditer(rb"[0-9]+", bytes(out[:2000])))
                if numbers:
                    found = rng.choice(numbers)
                    out[found.start():found.end()] = str(rng.choice((*ABSURD, -1, "1e9", "NaN", "[]", '"', "null"))).encode()
    return bytes(out)
