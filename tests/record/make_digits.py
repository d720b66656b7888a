"""Writes graphc/data/digits.npz from scikit-learn's copy of the UCI handwritten digits. Needs scikit-learn; is run by hand, never by a test.

The 1,797 images are stored in a fixed random order (NumPy's frozen legacy generator, seed 0), so that "the first 1437" is a fair split and
stays the same on every NumPy. Grey values are whole numbers 0..16, kept as they are.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

OUT = Path(__file__).parents[2] / "graphc" / "data" / "digits.npz"


def main() -> None:
    raw = load_digits()
    order = np.random.RandomState(0).permutation(len(raw.target))
    images, labels = raw.images[order].astype(np.uint8), raw.target[order].astype(np.uint8)
    assert images.shape == (1797, 8, 8)
    assert (images == raw.images[order]).all()
    assert images.max() == 16
    np.savez_compressed(OUT, images=images, labels=labels)
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
