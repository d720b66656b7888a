"""Writes tests/golden/core/promotion.txt: the dtype in which PyTorch lets two tensors, or a tensor and a Python number, meet. Needs torch; is run by hand.

A row for each pair: a, b, the result; "-" where torch refuses. The right one of a pair may be one of Python's types.
"""
from __future__ import annotations

from pathlib import Path

import torch

OUT = Path(__file__).parents[1] / "golden" / "core" / "promotion.txt"
NAMES = {"bool": torch.bool, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8, "u16": torch.uint16,
         "u32": torch.uint32, "u64": torch.uint64, "f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
BACK = {t: name for name, t in NAMES.items()}


def main() -> None:
    rows = []
    for a, ta in NAMES.items():
        for b, tb in NAMES.items():
            try:
                rows.append(f"{a} {b} {BACK[torch.promote_types(ta, tb)]}")
            except RuntimeError:
                rows.append(f"{a} {b} -")
        for b, number in (("True", True), ("1", 1), ("1.0", 1.0)):
            try:
                rows.append(f"{a} {b} {BACK[torch.result_type(torch.zeros(2, dtype=ta), number)]}")
            except RuntimeError:
                rows.append(f"{a} {b} -")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(rows) + "\n")
    print(f"{OUT.name}: {len(rows)} pairs, torch {torch.__version__}")


if __name__ == "__main__":
    main()
