"""What graphc is tested with, for those who extend it: differences, the oracle and its bounds, random programs, hunts, bisection, shrinking, golden texts."""
from __future__ import annotations

from .bisection import Difference, bisect
from .bounds import Bound, outside, propagated
from .differences import check_rule
from .draw import Draw, maker
from .explain import explain_grad
from .golden import compare_golden
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .gradients import check_grads
from .graphs import random_graph, random_inputs
from .hunting import Found, gradient_difference, hunt, hunt_in_processes, native_difference
from .oracle import check_against_oracle
from .programs import random_arguments, random_program
from .shrinking import dies, reproduction, shrink

__all__ = [
    "Bound", "Difference", "Draw", "Found", "GradcheckError", "bisect", "check_against_oracle", "check_grads", "check_rule", "compare_golden", "dies",
    "explain_grad", "gradcheck", "gradgradcheck", "gradient_difference", "hunt", "hunt_in_processes", "maker", "native_difference", "outside", "propagated",
    "random_arguments", "random_graph", "random_inputs", "random_program", "reproduction", "shrink",
]
