"""The proofs of the derivative rules: they hold, they catch wrong rules, and docs/derivatives.md says what they say."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from graphc.ir.op import REGISTRY
from graphc.ops import contract, elementwise, reduce
from graphc.ops.elementwise import cos, exp, floor, log, where
from graphc.symbolic.meaning import MEANING
from graphc.symbolic.rules import prove
from graphc.testing import check_rule

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current(docs_script: Callable[[str], ModuleType]) -> None:
    assert (DOCS / "derivatives.md").read_text(encoding="utf-8") == docs_script("make_derivatives").page(), "python docs/make_derivatives.py"


def test_every_op_is_on_the_page() -> None:
    page = (DOCS / "derivatives.md").read_text(encoding="utf-8")
    for op in REGISTRY.values():
        assert (f"`{op.name}`" in page) == (op.vjp is not None), op


def test_nearly_all_of_it_is_algebra() -> None:
    page = (DOCS / "derivatives.md").read_text(encoding="utf-8")
    assert page.count("| simplified |\n") >= 36
    assert page.count("| 60 digits |\n") <= 1


@pytest.mark.parametrize(("name", "wrong", "differs"), [
    ("tanh", lambda g, y, x: (g * (1.0 - y),), "at x ="),
    ("sin", lambda g, y, x: (-(g * cos(x)),), "at x ="),
    ("mul", lambda g, y, a, b: (g * b, g * b), "at a ="),
    ("mod", lambda g, y, a, b: (g, -(g * floor(b / a))), "at a ="),
    ("exp", lambda g, y, x: (g * y * 1.0000001,), "at x ="),
    ("pow", lambda g, y, a, b: (g * b * exp(log(a) * b), g * y * log(a)), "at a ="),
    ("maximum", lambda g, y, a, b: (where(elementwise.lt(b, a), g, g * 0.0), where(elementwise.lt(b, a), g * 0.0, g)), "at a ="),       # at ties
    ("where", lambda g, y, c, a, b: (g, where(c, g, g * 0.0), where(c, g, g * 0.0)), "no float"),
    ("sinh_like", "zero", "it changes"),
])
def test_a_wrong_rule_is_caught(name: str, wrong, differs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY["sin" if name == "sinh_like" else name]
    bad = replace(op, vjp=wrong)
    monkeypatch.setitem(MEANING, bad, MEANING[op])
    assert differs in next(p.difference for p in prove(bad) if p.how == "wrong")


def test_a_wrong_tensor_rule_is_caught() -> None:
    def swapped(g, y, a, b, **attrs):
        da, db = contract.contract.vjp(g, y, a, b, **attrs)
        return da * 1.001, db

    with pytest.raises(AssertionError, match="contract: the rule and a complex step differ by"):
        check_rule(replace(contract.contract, vjp=swapped))
    with pytest.raises(AssertionError, match="reverse mode says"):
        check_rule(replace(reduce.reduce_max, vjp=lambda g, y, x, *, axes: (reduce.reduce_sum.vjp(g, y, x, axes=axes)[0],)))
