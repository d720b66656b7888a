"""Tensor graph → plan of loop kernels: the only package that sees both intermediate forms."""
