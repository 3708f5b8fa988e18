"""take: a row by its number, as numbers, as Values, and refused where it is no such number."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optional import np

from micrograd_like import Value, grad, hessian, losses, softmax, take
from micrograd_like.errors import InputError, OperandError


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.data())
def test_take_is_indexing(numbers: list[float], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(numbers) - 1))
    values = [Value(x) for x in numbers]
    assert take(numbers, i) == numbers[i]
    assert take(values, i) is values[i]
    assert take([numbers, values], 1) is values


def test_any_whole_number_chooses() -> None:
    rows = [[1.0], [2.0], [3.0]]
    for two in (2, 2.0, True + 1, np.int64(2), np.float32(2.0), np.array(2)):
        assert take(rows, two) == [3.0]
    assert take(np.array(rows), 2).tolist() == [3.0]
    assert take((5.0, 6.0), 0) == 5.0


@pytest.mark.parametrize("i", [-1, 3, 1.5, math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_none_of_the_rows_is_refused(i: Any) -> None:
    with pytest.raises(InputError, match=r"from 0 to 2, and it is|too large"):
        take([1.0, 2.0, 3.0], i)


def test_what_cannot_choose_or_be_chosen_from_is_refused() -> None:
    with pytest.raises(OperandError, match="chooses by a plain number"):
        take([1.0, 2.0], Value(1.0))
    for i in ("1", None, [1], 1j):
        with pytest.raises(OperandError):
            take([1.0, 2.0], i)
    with pytest.raises(InputError, match="no row"):
        take([], 0)
    for rows in (3.0, {0: 1.0}, Value(1.0), iter([1.0])):
        with pytest.raises(OperandError, match="list of rows"):
            take(rows, 0)


def test_it_is_differentiated_as_what_it_chose() -> None:
    x, y = Value(0.3), Value(-0.8)
    root = take(softmax([x, y]), 1).log() * take([x, y], 0)
    assert grad(root, [x, y]) == pytest.approx(grad(softmax([x, y])[1].log() * x, [x, y]))
    second = hessian(lambda v: take(v, 1) ** 3 * take(v, 0), [2.0, 5.0])
    assert second == [[0.0, 75.0], [75.0, 60.0]]
    assert take([x, y], 1).op is None  # nothing is made that a picture would show


def test_a_label_is_taken_by_a_loss() -> None:
    logits = [Value(x) for x in (0.1, -0.4, 2.0)]
    by_hand = -take(softmax(logits), 2).log()
    assert losses.cross_entropy(logits, 2).data == pytest.approx(by_hand.data, rel=1e-14)
