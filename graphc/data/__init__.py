"""Data sets and loaders. NumPy arrays in, NumPy arrays out: nothing here knows of tensors, graphs or threads."""
from .datasets import TensorDataset, digits
from .loader import DataLoader

__all__ = ["DataLoader", "TensorDataset", "digits"]
