"""`explain`: the chain rule at one node, and its sums."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from reference import labelled

from micrograd_like import Value, greater, where
from micrograd_like.errors import OperandError
from micrograd_like.views.explanation import explain
from micrograd_like.views.names import numeral


def explained(capsys: pytest.CaptureFixture[str], node: Value, root: Value) -> str:
    capsys.readouterr()
    assert explain(node, root) is None  # type: ignore[func-returns-value]
    return capsys.readouterr().out.rstrip("\n")


def test_explain_sums_over_the_nodes_that_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = Value(2.0, "a"), Value(-3.0, "b"), Value(10.0, "c")
    d, e = labelled(a * b, "d"), labelled(a + c, "e")
    root = labelled(d * e, "L")
    assert explained(capsys, a, root) == (
        "∂L/∂a = ∂L/∂d · ∂d/∂a + ∂L/∂e · ∂e/∂a = ∂L/∂d · b + ∂L/∂e "
        "= 12.0 · (-3.0) + (-6.0) · 1.0 = -42.0"
    )
    assert explained(capsys, d, root) == "∂L/∂d = e = 1.0 · 12.0 = 12.0"
    assert a.grad == 0.0


def test_explain_has_a_term_for_each_use(capsys: pytest.CaptureFixture[str]) -> None:
    x = Value(3.0, "x")
    v = labelled(x * x, "v")
    root = labelled(v.exp(), "y")
    out = explained(capsys, x, root)
    assert "= ∂y/∂v · x + ∂y/∂v · x" in out
    assert out.endswith(f"= {numeral(6 * math.exp(9))}")


def test_explain_elides_many_uses_and_breaks_long_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    w = Value(0.5, "w")
    root = Value(0.0)
    for i in range(100):
        root = root + labelled(w * float(i), f"z{i}")
    lines = explained(capsys, w, labelled(root, "L")).splitlines()
    assert lines[0].startswith("∂L/∂w = ∂L/∂z0 · ∂z0/∂w + ")
    assert all(line.startswith("      = ") for line in lines[1:])
    assert all("… 96 more …" in line for line in lines[:-1])
    assert lines[-1] == "      = 4950.0"


def test_explain_breaks_what_is_longer_than_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    w = Value(0.5, "weight")
    root = Value(0.0)
    for i in range(8):
        root = root + labelled(w * float(i + 1), f"weighted_input_{i}")
    lines = explained(capsys, w, labelled(root, "L")).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("∂L/∂weight = ∂L/∂weighted_input_0 · ∂weighted_input_0/∂weight")
    assert all(line.startswith(("           = ", "             + ")) for line in lines[1:])
    assert lines[-1] == "           = 36.0"


def test_explain_where_there_is_nothing_to_sum(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = Value(1.0, "x"), Value(2.0, "y")
    root = labelled(x * 2, "r")
    assert explained(capsys, root, root) == "∂r/∂r = 1.0"
    assert explained(capsys, y, root) == "∂r/∂y = 0.0: r does not depend on y"
    chosen = labelled(where(greater(x, 0.0), root, y), "c")
    assert "depends on y only in conditions" in explained(capsys, y, chosen)
    condition = labelled(where(greater(y, 0.0), root, 1.0), "c")
    assert "depends on y only in conditions" in explained(capsys, y, condition)


def test_explain_says_where_numbers_are_no_longer_those_of_the_symbols(
    capsys: pytest.CaptureFixture[str],
) -> None:
    x, w = Value(2.0, "x"), Value(3.0, "w")
    y = labelled(w * x, "y")
    assert explained(capsys, w, y) == "∂y/∂w = x = 1.0 · 2.0 = 2.0"
    x.data = 5.0
    said = "∂y/∂w = x = 1.0 · 2.0 = 2.0\n(as recorded: data was changed since)"
    assert explained(capsys, w, y) == said


@pytest.mark.parametrize(
    ("call", "says"),
    [(lambda x: explain(3.0, x), "3.0"), (lambda x: explain(x, 3.0), "float")],
)
def test_what_is_no_value_is_refused_by_name(call: Any, says: str) -> None:
    with pytest.raises(OperandError, match=re.escape(says)):
        call(Value(1.0, "x"))
