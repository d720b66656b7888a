"""Formulas of linear algebra: what is written for functions and for their gradients, and that it is a book's."""
from __future__ import annotations

from typing import Any

import pytest

import graphc as gx
from graphc.symbolic import algebra

L = gx.linalg
A, B, V = gx.Spec((3, 3)), gx.Spec((3, 3)), gx.Spec((3,))
SAID: dict[str, tuple[Any, tuple[Any, ...], Any, list[str]]] = {
    "solution": (lambda A, b: L.solve(A, b), (A, V), None, ["y &= A^{-1} b"]),
    "inverse": (lambda A: L.inv(A), (A,), None, ["y &= A^{-1}"]),
    "normal equations": (lambda A, b: L.solve(A.mT @ A, A.mT @ b), (A, V), None, [r"y &= \left(A^\top A\right)^{-1} A^\top b"]),
    "quadratic form": (lambda A, b: b @ L.solve(A, b), (A, V), "A",
                       ["u &= A^{-1} b", r"L &= b^\top u", r"\frac{\partial L}{\partial A} &= -A^{-\top} b\, u^\top"]),
    "determinant": (lambda A: L.det(A), (A,), "A", [r"L &= \det\left(A\right)", r"\frac{\partial L}{\partial A} &= \operatorname{cof}\left(A\right)"]),
    "logarithm of a determinant": (lambda A: L.slogdet(A).logabsdet, (A,), "A",
                                   [r"L &= \log\left|\det A\right|", r"\frac{\partial L}{\partial A} &= A^{-\top}"]),
    "trace": (lambda A: L.trace(A), (A,), "A", [r"L &= \operatorname{tr}\left(A\right)", r"\frac{\partial L}{\partial A} &= I"]),
    "trace of a product": (lambda A, X: L.trace(A @ X), (A, B), "A",
                           [r"L &= \operatorname{tr}\left(A X\right)", r"\frac{\partial L}{\partial A} &= X^\top"]),
    "trace of a solution": (lambda A, X: L.trace(L.solve(A, X)), (A, B), "X",
                            [r"L &= \operatorname{tr}\left(A^{-1} X\right)", r"\frac{\partial L}{\partial X} &= A^{-\top}"]),
    "norm": (lambda A, b: L.norm(A @ b), (A, V), "A",
             ["u &= A b", r"L &= \left\|u\right\|", r"\frac{\partial L}{\partial A} &= \frac{1}{\left\|u\right\|} u\, b^\top"]),
    "norm of a matrix": (lambda A: L.norm(A), (A,), None, [r"y &= \left\|A\right\|_F"]),
    "factor": (lambda A, b: L.solve_triangular(L.cholesky(A), b[:, None], upper=False)[:, 0], (A, V), None,
               [r"y &= \operatorname{chol}\left(A\right)^{-1} b"]),
    "a matrix called i": (lambda i: L.trace(i), (A,), "i", [r"L &= \operatorname{tr}\left(I_{2}\right)", r"\frac{\partial L}{\partial I_{2}} &= I"]),
    "an element": (lambda A, b: L.solve(A, b) * gx.stack([L.solve(A.mT, b)] * 3), (A, V), None, []),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_written(name: str) -> None:
    f, args, wrt, want = SAID[name]
    text = gx.symbolic.latex(f, *args, wrt=wrt)
    lines = text.replace("\\begin{aligned}\n", "").replace("\n\\end{aligned}", "").split(" \\\\\n")
    assert all(text.count(a) == text.count(b) for a, b in (("{", "}"), (r"\left(", r"\right)")))
    if want:
        assert lines == want


def test_how_tightly_a_phrase_holds() -> None:
    for text, want in (("A", algebra.ATOM), ("W_{1, 2}", algebra.ATOM), ("A^{-1}", algebra.POW), ("A^{-1} b", algebra.MUL),
                       (r"\det\left(A X\right)", algebra.ATOM), (r"\left(A^\top A\right)^{-1} b", algebra.MUL)):
        assert algebra.level(text) == want
    assert algebra.turned("A^{-1}") == r"A^{-\top}"
    assert algebra.turned(r"A^{-\top}") == "A^{-1}"
    assert algebra.turned("A^{-1} b") == r"\left(A^{-1} b\right)^\top"
