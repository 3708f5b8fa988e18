"""Shorter examples in the program of a longer one.

A loss is a linear combination of *terms*. Where a shorter example's loss has terms that the longer
one's has too - so it is if no position looks at later ones - the program of the longer one computes
both, with the coefficients of the terms as inputs: those that the shorter one lacks are 0, and the
numbers that it lacks may be any. A mean is such a combination: its 1/n is among the coefficients.
Terms that depend on the same numbers of the example, with the same coefficient, share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..engine import Value, operands_of
from ..sums import affine
from .tape import ordered
from .tracing import Trace


class Weights(NamedTuple):
    """A loss with coefficients as inputs: `leaves`, one for each group of the terms' keys."""

    root: Value
    leaves: list[Value]
    groups: list[list[int]]


def weighted(trace: Trace) -> Weights | None:
    """The loss of a trace with coefficients as inputs; None if no other example can share them."""
    if trace.guards or not trace.terms:
        return None
    seen = _dependencies(trace)
    groups: dict[tuple[int, float], list[int]] = {}
    # In the order of the last number that they depend on: of the positions of a text, say.
    for key, (term, c) in sorted(trace.terms.items(), key=lambda item: seen[item[1][0]]):
        groups.setdefault((seen[term], c), []).append(key)
    leaves = [Value(c) for _, c in groups]
    sums = []
    for keys in groups.values():
        terms = [trace.terms[key][0] for key in keys]
        sums.append(terms[0] if len(terms) == 1 else affine([1.0] * len(terms), terms))
    return Weights(affine(leaves, sums, trace.constant), leaves, [*groups.values()])


def coefficients(
    groups: Sequence[Sequence[int]], longer: Trace, trace: Trace
) -> list[float] | None:
    """The coefficients with which the longer trace's terms are the loss of the other one, or None.

    The numbers that the other one has must choose as they do in the longer one, and be required to
    be what those are.
    """
    place = {name: i for i, name in enumerate(longer.names)}
    if trace.guards or not trace.names or not place.keys() >= {*trace.names}:
        return None
    if any(
        trace.choices.get(i) != longer.choices.get(place[name])
        for i, name in enumerate(trace.names)
    ):
        return None
    if _required(trace, {*trace.names}) != _required(longer, {*trace.names}):
        return None
    if trace.constant != longer.constant or not longer.terms.keys() >= trace.terms.keys():
        return None
    if not {*longer.keys_of_shown} >= {*trace.keys_of_shown}:
        return None
    result: list[float] = []
    for keys in groups:
        found = {trace.terms[key][1] if key in trace.terms else 0.0 for key in keys}
        if len(found) > 1:
            return None
        result += found
    return result


def _required(trace: Trace, names: set[str]) -> set[Any]:
    """What is required of the numbers with these names, and others."""
    return {
        (rule, *of)
        for rule, every in trace.required.items()
        for places in every
        if not names.isdisjoint(of := [trace.names[i] for i in places])
    }


def _dependencies(trace: Trace) -> dict[Value, int]:
    """The numbers of the example that each node depends on, as bits."""
    seen: dict[Value, int] = {leaf: 1 << i for i, leaf in enumerate(trace.given)}
    for place, leaves in trace.indicators.items():
        seen |= dict.fromkeys(leaves, 1 << place)
    order = ordered([trace.root], trace.sources)
    for node, operands in zip(order, operands_of(order), strict=True):
        if node in seen:
            continue
        bits = seen[trace.sources[node]] if node in trace.sources else 0
        for operand in operands:
            if operand.__class__ is not float:
                bits |= seen[operand]  # type: ignore[index]
        seen[node] = bits
    return seen
