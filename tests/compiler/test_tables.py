"""Sums over parts of an array, as products with a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from micrograd_like.compiler.tables import in_lines, tabled  # noqa: E402


def of_sums(shape, sums):
    """What is found for sums, each a dict of coefficients by place."""
    places = np.array([place for terms in sums for place in terms])
    c = np.array([c for terms in sums for c in terms.values()])
    owner = np.repeat(np.arange(len(sums)), [len(terms) for terms in sums])
    return tabled(shape, places, c, owner, len(sums))


@st.composite
def sums_of(draw):
    shape = draw(st.sampled_from([(7,), (3, 4), (2, 3, 2)]))
    place = st.integers(0, int(np.prod(shape)) - 1)
    terms = st.dictionaries(place, st.sampled_from([0.0, 1.0, -0.5]), min_size=1, max_size=5)
    return shape, draw(st.lists(terms, min_size=2, max_size=6))


@given(sums_of())
def test_products_with_the_table_are_the_sums(given):
    shape, sums = given
    found = of_sums(shape, sums)
    if found is None:
        return
    x = np.arange(1.0, np.prod(shape) + 1.0)
    expected = [sum(c * x[place] for place, c in terms.items()) for terms in sums]
    assert np.allclose((x[found.lines] * found.coefficients).sum(1), expected)
    for terms, line, real in zip(sums, found.lines, found.real, strict=True):
        assert set(line[real]) == set(terms)
        assert len(set(line)) == len(line)


def test_sums_over_neighbours_are_along_the_axis_of_the_nodes():
    near = [[0, 2], [1, 2, 3], [3]]
    found = of_sums((4, 2), [{2 * j + k: 1.0 for j in js} for js in near for k in range(2)])
    assert found.lines[:2].tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert found.real[::2].tolist() == [[j in js for j in range(4)] for js in near]


def test_sums_of_rows_and_columns_need_no_table():
    rows = [{3 * i + j: 1.0 for j in range(3)} for i in range(2)]
    columns = [{3 * i + j: 1.0 for i in range(2)} for j in range(3)]
    assert of_sums((2, 3), [*rows, *columns, {4: 2.0}]) is None


def test_a_large_table_is_not_nearly_empty():
    near = [[i, i + 1] if i % 2 else [i] for i in range(199)]
    assert of_sums((200,), [dict.fromkeys(js, 1.0) for js in near]) is None


def of_products(shape, sums):
    """What is found for sums of products, each a dict of places by place."""
    places = np.array([place for terms in sums for place in terms])
    others = np.array([other for terms in sums for other in terms.values()])
    owner = np.repeat(np.arange(len(sums)), [len(terms) for terms in sums])
    return in_lines(shape, places, others, owner, len(sums))


def test_products_with_a_part_of_a_line_are_those_with_all_of_it_where_some_are_missing():
    lines, rows = of_products((2, 3), [{0: 7, 1: 8, 2: 9}, {4: 5, 5: 6}])
    assert lines.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows.tolist() == [[7, 8, 9], [-1, 5, 6]]


def test_products_with_whole_lines_or_little_of_one_stay_as_they_are():
    assert of_products((2, 3), [{0: 7, 1: 8, 2: 9}, {4: 5}]) is None
    assert of_products((10,), [{0: 7, 1: 8, 2: 9}, {4: 5, 5: 6}]) is None
