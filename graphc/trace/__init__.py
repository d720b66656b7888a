"""The front wing: Python in, graph out. Tensors, the tracer, gradients as the user spells them, and what makes a trace stale."""
from .guards import bump
from .tracer import depends, on_failure, phase, scope

__all__ = ["bump", "depends", "on_failure", "phase", "scope"]
