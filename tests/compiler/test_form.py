"""The lifted form: what a view is, and what cannot be changed."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError

import pytest
from optional import np
from samples import PROGRAMS, demo

from micrograd_like import compile

pytest.importorskip("numpy")

from micrograd_like.compiler.form import Array, View, progression


def array(*shape):
    return Array(0, shape, range(int(np.prod(shape))), None, "a")


def lifted(inputs, root):
    return compile(root, inputs, inputs)._lifted


@pytest.mark.parametrize(
    ("places", "index"),
    [
        ([3, 4], (slice(3, 5, 1),)),
        ([1, 4, 7], (slice(1, 8, 3),)),
        ([5], (slice(5, 6, 1),)),
        (7, (7,)),
        ([4, 3], None),
        ([0, 1, 3], None),
        ([2, 2], None),
        ([[0, 1], [2, 3]], None),
    ],
)
def test_a_slice_of_a_vector_is_its_index(places, index):
    assert View(array(9), np.asarray(places)).index() == index


@pytest.mark.parametrize(
    "index",
    [
        (2, 1), (1,), (0, slice(1, 3, 1)), (slice(None), 2), (slice(1, 3, 1), 0),
        (slice(0, 2, 1),), (slice(0, 3, 2), slice(0, 2, 1)), (slice(None), slice(1, 3, 1)),
    ],
)  # fmt: skip
def test_what_an_index_of_a_matrix_takes_has_that_index(index):
    places = np.arange(12).reshape(4, 3)
    assert View(array(4, 3), places[index]).index() == index
    assert View(array(4, 3), places[::-1]).index() is None
    assert View(array(4, 3), np.stack([places, places])).index() is None


@pytest.mark.parametrize("seed", range(20))
def test_any_index_takes_just_the_places_of_its_view(seed):
    rng = random.Random(seed)
    a = array(rng.randint(2, 4), rng.randint(2, 4))
    whole = np.arange(a.size).reshape(a.shape)
    for _ in range(50):
        shape = rng.choice([(), (2,), (3,), (2, 2)])
        places = np.array([rng.randrange(a.size) for _ in range(int(np.prod(shape)))])
        view = View(a, np.sort(places).reshape(shape))
        if (index := view.index()) is not None:
            assert np.array_equal(whole[index], view.places)


def test_a_view_knows_whether_it_is_all_of_its_array_or_one_element():
    a = array(2, 3)
    whole = View(a, np.arange(6).reshape(2, 3))
    assert (whole.is_whole, whole.is_all, whole.is_single) == (True, True, False)
    flat = View(a, np.arange(6))
    assert (flat.is_whole, flat.is_all) == (False, True)
    turned = View(a, whole.places.T)
    assert (turned.is_whole, turned.is_all) == (False, False)
    assert View(a, np.full((4, 2), 5)).is_single
    assert View(a, np.asarray(5)).is_single


def test_a_view_without_repeats_is_what_broadcasting_needs():
    a = array(2, 3)
    for shape in [(4, 2, 3), (2, 3, 4), (2, 1, 3)]:
        axis = shape.index(4 if 4 in shape else 1)
        view = View(a, np.broadcast_to(np.expand_dims(a.whole.places, axis), shape))
        part, repeats = view.without_repeats()
        assert (part.is_whole, repeats) == (True, [k == axis for k in range(3)])
    part, repeats = View(a, np.full((3, 2), 5)).without_repeats()
    assert (part.places.tolist(), repeats) == (5, [True, True])


def test_a_view_turned_has_its_last_two_axes_exchanged():
    a = array(2, 3)
    assert a.whole.turned.places.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert View(a, np.arange(6)).turned.is_all
    assert View(a, np.arange(6).reshape(1, 3, 2)).turned.places.tolist() == [[[0, 2, 4], [1, 3, 5]]]


def test_places_in_equal_steps_are_a_progression():
    assert progression(np.array([2, 5, 8])) == slice(2, 9, 3)
    assert progression(np.array([4])) == slice(4, 5, 1)
    assert progression(np.array([5, 2])) is None
    assert progression(np.array([1, 2, 4])) is None


@pytest.mark.parametrize("name", PROGRAMS)
def test_statements_read_what_was_computed_before_them(name):
    form = lifted(*PROGRAMS[name]())
    known = {a for a, _ in form.inputs}
    for statement in form.statements:
        assert {v.array for v in statement.views if v.array.data is None} <= known
        assert statement.result not in known
        known.add(statement.result)
        assert len(statement.result.members) == statement.result.size


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_number_of_the_tape_is_a_member_of_its_array(name):
    form = lifted(*PROGRAMS[name]())
    for number, (a, place) in enumerate(zip(form.array_of, form.place_of, strict=True)):
        assert a.members[place] == number


def test_the_form_cannot_be_changed():
    model, loss = demo()
    form = lifted(model.parameters(), loss)
    statement = form.statements[0]
    for part in (form, statement, statement.result, statement.terms[0], statement.views[0]):
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            part.name = "other"


def test_what_a_network_multiplies_are_products_of_matrices_in_the_form():
    model, loss = demo()
    form = lifted(model.parameters(), loss)
    kinds = [term.kind for s in form.statements for term in s.terms if term.right is not None]
    assert kinds.count("matmul") >= 6
