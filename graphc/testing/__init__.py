"""What graphc is tested with, for those who extend it: differences, the oracle, bisection over the evaluators, random graphs, golden texts."""
from __future__ import annotations

from .bisection import Difference, bisect
from .differences import check_rule
from .explain import explain_grad
from .golden import compare_golden
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .gradients import check_grads
from .graphs import random_graph, random_inputs
from .oracle import check_against_oracle

__all__ = [
    "Difference", "GradcheckError", "bisect", "check_against_oracle", "check_grads", "check_rule", "compare_golden", "explain_grad", "gradcheck",
    "gradgradcheck", "random_graph", "random_inputs",
]
