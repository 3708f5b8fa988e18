"""Sums of floats as text, for the sources over floats: `straight.py` and `loops.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import copysign
from typing import Final

MOST_TERMS: Final = 100  # in a line, of longer sums: compilers recurse into expressions
Signed = tuple[str, str]  # a term: "-" or "", and what is subtracted or added


def signed(x: float) -> Signed:
    """A number as a term."""
    return ("-" if copysign(1.0, x) < 0.0 else "", repr(abs(x)))


def scaled(c: float, text: str, number: Callable[[float], Signed] = signed) -> Signed:
    """The product c · text as a term."""
    sign, digits = number(c)
    return (sign, text if abs(c) == 1.0 else f"{digits} * {text}")


def ordered(terms: Sequence[Signed]) -> list[Signed]:
    """The terms with one that is added in front: x - y is one operation, and -y + x is two."""
    leading = next((k for k, (sign, _) in enumerate(terms) if not sign), 0)
    return [terms[leading], *terms[:leading], *terms[leading + 1 :]]


def joined(terms: Sequence[Signed]) -> str:
    """The sum of the terms, ordered so."""
    (sign, text), *rest = ordered(terms)
    return f"{sign}{text}" + "".join(f" {sign or '+'} {text}" for sign, text in rest)
