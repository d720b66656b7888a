"""Data sets and loaders. NumPy arrays in, NumPy arrays out: nothing here knows of tensors or graphs."""
from .datasets import Digits, TensorDataset, digits
from .files import Table, load_csv, load_npy, load_npz
from .idx import mnist, read_idx, write_idx
from .loader import DataLoader
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = ["BatchSampler", "DataLoader", "Digits", "RandomSampler", "Sampler", "SequentialSampler", "Table", "TensorDataset", "digits", "load_csv",
           "load_npy", "load_npz", "mnist", "read_idx", "write_idx"]
