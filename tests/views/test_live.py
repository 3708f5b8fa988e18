"""The program of a live page: what each node and each edge is when the leaves are others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from javascript import computed
from reference import VALUE, Program, programs

from micrograd_like import Op, Value, affine, no_grad, ops
from micrograd_like.errors import DomainError, InputError
from micrograd_like.views import live
from micrograd_like.views.live import live_program
from micrograd_like.views.stepping import steps


def found(root: Value, leaves: list[float]) -> tuple[list[float], list[float]]:
    """The values and the local derivatives that the root's program gives for these leaves."""
    forward = steps(root).forward
    source = live_program(root, forward) + "export { program };"
    (numbers,) = computed(source, [[leaves]])
    return numbers[: len(forward)], numbers[len(forward) :]


def wanted(root: Value) -> tuple[list[float], list[float]]:
    """The same, as the engine has it."""
    forward = steps(root).forward
    return [e.after for e in forward], [edge.local for e in forward for edge in e.edges]


def leaves_of(root: Value) -> list[float]:
    return [event.after for event in steps(root).forward if event.node.op is None]


def close(xs: list[float], ys: list[float]) -> bool:
    scale = max([1.0, *(abs(y) for y in ys if math.isfinite(y))])
    return len(xs) == len(ys) and all(
        x == y or math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-13 * scale) or (x != x and y != y)
        for x, y in zip(xs, ys, strict=True)
    )


def agrees(root: Value, other: Value) -> None:
    """Fail where the root's program does not give the numbers of `other`, its graph elsewhere."""
    for got, want in zip(found(root, leaves_of(other)), wanted(other), strict=True):
        assert close(got, want)


@settings(max_examples=60)
@given(programs(), st.floats(-0.3, 0.3))
def test_any_graph_follows_its_leaves(program: Program, change: float) -> None:
    root = program.run(list(map(Value, program.inputs)), VALUE)[-1]
    assume(root.op is not None)
    try:
        other = program.run([Value(x + change) for x in program.inputs], VALUE)[-1]
    except DomainError:
        assume(False)
    agrees(root, root)
    agrees(root, other)


GRAPHS: dict[str, Callable[[Value, Value], Value]] = {
    "sums of products": lambda x, y: affine([x, 2.0, y], [y, x, 3.0], x) * x,
    "a power": lambda x, y: x**y + y**2 + x**0,
    "many arguments": lambda x, y: ops.logsumexp(x, 1.0, y, x) + ops.maximum(x, y, 0.5),
    "one operand twice": lambda x, y: x * x + (y - y) / x,
    "a constant condition": lambda x, y: ops.where(1.0, x * y, y) + ops.where(0.0, x, x.exp()),
    "nothing to simplify": lambda x, y: 0.0 * x + 1.0 * y + (x + 0.0) - -y,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_operations_of_every_form_follow(name: str) -> None:
    make = GRAPHS[name]
    agrees(make(Value(0.5), Value(1.5)), make(Value(2.25), Value(-3.0 if name[2] != "p" else 0.5)))


def test_a_page_made_within_no_grad_follows_its_leaves() -> None:
    x = Value(2.0)
    root = x.tanh() * x
    with no_grad():
        source = live_program(root, steps(root).forward)
    assert source == live_program(root, steps(root).forward)


def test_a_choice_hands_all_on_to_the_side_that_is_taken() -> None:
    def make(a: float, b: float) -> Value:
        x, y = Value(a, "x"), Value(b, "y")
        return ops.where(ops.greater(y, 1.0), x * y, x + y)

    agrees(make(3.0, 2.0), make(4.0, 1.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda x, took: took * x,
        lambda x, took: x / ops.logsumexp(took, x, took),
        lambda x, took: ops.where(ops.greater(x, 0.0), 1.0 / took, x) * took,
    ],
)
def test_edges_from_a_choice_that_took_a_number_have_their_local_derivatives(
    make: Callable[[Value, Value], Value],
) -> None:
    def root(a: float) -> Value:
        took = ops.where(ops.greater(Value(1.0), 0.0), 3.0, Value(4.0))
        return make(Value(a), took)

    agrees(root(2.0), root(5.0))


def test_conditions_come_after_the_nodes() -> None:
    x = Value(3.0, "x")
    condition = ops.greater(x, 1.0)
    root = ops.where(condition, x * 2.0, 0.0)
    forward = steps(root).forward
    source = live_program(root, forward, [condition]) + "export { program };"
    assert computed(source, [[[2.5]], [[0.5]]]) == [
        [2.5, 5.0, 5.0, 1.0, 2.0, 1.0],
        [0.5, 1.0, 0.0, 0.0, 2.0, 1.0],
    ]


def test_outside_the_domain_there_is_nan_and_at_poles_an_infinity() -> None:
    x = Value(2.0)
    values, _ = found(1.0 / x.log(), [-1.0])
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    values, _ = found(1.0 / x.log(), [1.0])
    assert values == [1.0, 0.0, math.inf]


def test_what_a_page_could_not_compute_is_a_replay(
    made_up: type[Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = Value(2.0, label="x")
    silent = made_up("silent", lambda x: x + 1.0, lambda x, out: 1.0)
    frozen = made_up("frozen", lambda x: x * x, lambda x, out: math.sqrt(x) * 2.0, numba="@x * @x")
    forked = made_up("forked", abs, lambda x, out: 1.0 if x > 0.0 else -1.0, numba="abs(@x)")
    stale = x * x
    cases: list[tuple[Any, str]] = [
        (silent(x), "the operation silent does not say how it is written in JavaScript"),
        (frozen(x), "math.sqrt|must be real number|frozen"),
        (forked(x), "a partial of forked compares its arguments"),
        (x, "nothing is computed"),
    ]
    for root, reason in cases:
        with pytest.raises(InputError, match=reason):
            live_program(root, steps(root).forward)
    w = Value(3.0)
    chosen = ops.where(ops.greater(x, 0.0), w * 2.0, 0.0)
    untaken = ops.where(ops.greater(w, 0.0), w * 2.0, x * 5.0)
    x.data = -3.0
    for root in (stale, chosen, untaken):
        with pytest.raises(InputError, match="data was changed"):
            live_program(root, steps(root).forward)
    monkeypatch.setattr(live, "MOST_NODES", 1)
    root = Value(1.0).exp()
    with pytest.raises(InputError, match="more than 1 nodes"):
        live_program(root, steps(root).forward)
