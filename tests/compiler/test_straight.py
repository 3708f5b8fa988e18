"""The tape as straight-line Python: sums of signed terms, names, and time in proportion."""

from __future__ import annotations

import math
from time import process_time

from micrograd_like import Value, compile, ops, sin
from micrograd_like.compiler.straight import emit_straight
from micrograd_like.compiler.tape import record
from micrograd_like.compiler.terms import joined, ordered, scaled, signed


def test_terms_are_joined_with_what_is_added_in_front():
    terms = [scaled(-1.0, "x"), scaled(-2.5, "y"), scaled(1.0, "z"), signed(-3.0)]
    assert joined(terms) == "z - x - 2.5 * y - 3.0"
    assert joined(terms[:2]) == "-x - 2.5 * y"
    assert ordered(terms)[0] == ("", "z")
    assert scaled(-0.0, "x") == ("-", "0.0 * x")
    assert joined([signed(math.inf), signed(-math.inf)]) == "inf - inf"


def test_functions_are_called_what_nothing_else_is(made_up):
    twice = made_up("2 times", lambda x: 2.0 * x, lambda x, out: 2.0)
    again = made_up("2_times", lambda x: 3.0 * x, lambda x, out: 3.0)
    x, y = Value(2.0, "tanh"), Value(-3.0, "pow_")
    root = ops.tanh(x) + ops.maximum(x, y) + ops.power(x, y) + twice(x) + again(x) + ops.tanh(y)
    source, functions = emit_straight(record([root], [x, y]), ["tanh", "pow_"], [("outputs", 0)])
    assert set(functions) == {"tanh_", "max_", "pow__", "op_2_times_", "op_2_times__"}
    assert source.count("tanh_(") == 2
    assert compile(root, [x, y], backend="python")([2.0, -3.0]) == root.data


def seconds(count):
    x = y = Value(0.5, "x")
    for _ in range(count):
        y = sin(y) + x
    tape = record([y], [x])
    start = process_time()
    emit_straight(tape, ["x"], [("outputs", 0)])
    return process_time() - start


def test_a_graph_four_times_as_long_takes_four_times_as_long():
    assert min(seconds(16_000) for _ in range(3)) < 8 * min(seconds(4_000) for _ in range(3))
