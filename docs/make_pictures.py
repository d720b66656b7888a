"""Draw the pictures of the README and the documentation anew, from the example as it is: `python docs/make_pictures.py`.

digits_step.svg is the training step, digits_kernels.svg what it was compiled to, digits_memory.svg its arena. Needs the extra `graphc[viz]`.
"""
from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURES = {"digits_step.svg": "lanes", "digits_kernels.svg": "kernels", "digits_memory.svg": "memory"}


def main() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "01_digits.py"))
    step = example["train_step"].lower(example["x_train"][:64], example["y_train"][:64])
    for name, view in PICTURES.items():
        made = step.draw(ROOT / "docs" / name, view=view)
        assert made.name == name, f"{made}: is there no renderer?"
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
