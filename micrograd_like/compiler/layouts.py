"""In which order each array has its elements: the one that its readers want, where that is cheaper.

The lifter lays out an array as it is computed. Where all that read it turn it, as queries, keys and
values of an attention are split into heads, it is turned once, where it is computed; a product of
matrices whose result is read transposed is computed so, (A B)ᵀ = Bᵀ Aᵀ; and what is computed
element by element may have any order. Inputs and constants have their own, and so have outputs
where they are put together. An array is laid out anew where the effort is less, until none is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .form import Array, Indices, Lifted, Statement, Term, View
from .grids import Layout

_MOST_AXES = 3
_MOST_ROUNDS = 4  # through all arrays; two are enough, as a rule

# What it takes to have a view, in times of the fastest: all of an array in another shape.
_RESHAPED, _TURNED, _COPIED, _GATHERED = 1.0, 2.0, 3.0, 12.0
_TRANSPOSED = 0.25  # of a matrix that is a factor, which costs nothing but is to be read
_COLUMNS = 3.0  # of a product W Xᵀ, which is not one for all examples together as X Wᵀ is


def laid_out(lifted: Lifted) -> Lifted:
    """The same program, with its arrays laid out for those who read them."""
    return _Layouts(lifted).laid_out()


class _Layouts:
    def __init__(self, lifted: Lifted) -> None:
        self.lifted = lifted
        self.inputs = {array for array, _ in lifted.inputs}
        self.made = {s.result: s for s in lifted.statements}
        self.readers: dict[Array, list[Statement]] = {}
        for statement in lifted.statements:
            for array in {view.array for view in statement.views}:
                self.readers.setdefault(array, []).append(statement)
        # Of each array that is put out the places, in the order of the outputs.
        self.given_out: dict[Array, list[int]] = {}
        for output in lifted.tape.outputs:
            if isinstance(output, int):
                place = int(lifted.place_of[output])
                self.given_out.setdefault(lifted.array_of[output], []).append(place)
        self.layouts: dict[Array, Layout] = {}  # of those that are laid out anew
        self.arrays: dict[Array, Array] = {}  # what they are then
        self.places: dict[Array, Indices] = {}  # where each element is then
        self.turned: set[int] = set()  # the numbers of those that are transposed after that
        self.outputs = {array.number for array in self.given_out}
        self.known: dict[Any, float] = {}

    def laid_out(self) -> Lifted:
        pending = set(self.made)
        for statement in [*self.lifted.statements] * _MOST_ROUNDS:
            array = statement.result
            if array in pending:
                pending.discard(array)
                if self._improve(statement):
                    beside = (statement, *self.readers.get(array, ()))
                    pending.update(view.array for s in beside for view in s.views)
                    pending.update(s.result for s in beside)
        if not self.layouts:
            return self.lifted
        lifted, place_of = self.lifted, self.lifted.place_of.copy()
        for array, layout in self.layouts.items():
            members = np.asarray(array.members, dtype=np.intp)
            now = replace(self.arrays[array], members=members[layout.order].tolist())
            self.arrays[array] = now
            real = members[members >= 0]
            place_of[real] = self.places[array][place_of[real]]
        return replace(
            lifted,
            statements=[self._now(statement) for statement in lifted.statements],
            array_of=[self.arrays.get(array, array) for array in lifted.array_of],
            place_of=place_of,
        )

    # --- the search ---

    def _improve(self, statement: Statement) -> bool:
        """Lay out the result of a statement anew, if that is less effort."""
        array = statement.result
        if array.size < 2:
            return False
        least = self._effort_of(array)
        before = self.layouts.get(array)
        best = None
        for layout in [*self._candidates(array)]:
            self._lay_out(array, layout)
            if self._ways(statement) and (effort := self._effort_of(array)) < least:
                best, least = layout, effort
        self._lay_out(array, best or before)
        return best is not None

    def _lay_out(self, array: Array, layout: Layout | None) -> None:
        if layout is None:
            for known in (self.layouts, self.arrays, self.places):
                known.pop(array, None)
            self.turned.discard(array.number)
            return
        real = None if array.real is None else array.real[layout.order]
        self.layouts[array] = layout
        self.arrays[array] = replace(array, shape=layout.shape, real=real)
        self.places[array] = np.argsort(layout.order)
        ways = self._ways(self.made[array])
        is_turned = len(ways) > 1 and len(layout.shape) == _MOST_AXES
        (self.turned.add if is_turned else self.turned.discard)(array.number)

    def _effort_of(self, array: Array) -> float:
        """That of all that the layout of an array matters to."""
        statements = (self.made[array], *self.readers.get(array, ()))
        effort = sum(sum(self._efforts_of(self._now(s))) for s in statements)
        return effort + self._effort_of_output(array)

    def _effort_of_output(self, array: Array) -> float:
        if array not in self.given_out:
            return 0.0
        given = self._view(View(array, np.array(self.given_out[array])))
        return 0.0 if given.is_all else min(self._effort(given), _TURNED)

    def _candidates(self, array: Array) -> Iterator[Layout]:
        """How it may be laid out: with its axes in another order, or as it is read somewhere."""
        now = self.layouts.get(array) or Layout(np.arange(array.size), array.shape)
        seen = {(now.shape, now.order.tobytes())}
        first = array.whole.places
        found: list[Indices] = [first]
        for statement in self.readers.get(array, ()):
            for view, turns in _operands(self._now(statement)):
                if view.array is self.arrays.get(array, array):
                    places = now.order[view.without_repeats()[0].places]
                    found.append(places)
                    if turns and places.ndim > 1:
                        found.append(places.swapaxes(-1, -2))
        found.append(now.order.reshape(now.shape).T)
        if first.ndim == _MOST_AXES:
            found += [first.transpose(axes) for axes in ((0, 2, 1), (1, 0, 2), (1, 2, 0))]
        for places in found:
            order = places.reshape(-1)
            key = places.shape, order.tobytes()
            if key in seen or not 0 < places.ndim <= _MOST_AXES:
                continue
            seen.add(key)
            if len(order) == array.size and np.bincount(order).max() == 1:
                yield Layout(order, places.shape)

    # --- what it comes to ---

    def _efforts_of(self, statement: Statement) -> Iterator[float]:
        """What it takes to have its views, and to take its result."""
        axes, result = len(statement.shape), statement.result
        if statement.taken is not None:
            is_matrix = len(result.shape) < _MOST_AXES
            yield self._effort(statement.taken, as_rows=is_matrix)
        yield from map(self._effort, statement.parts)
        for x in statement.args:
            if isinstance(x, View):
                yield self._effort(x) if x.places.ndim > axes else self._effort_each(x)
        for term in statement.terms:
            if term.kind == "matmul" and all(view.places.ndim > 1 for view in term.views):
                yield self._effort_of_product(term, result.number in self.outputs)
            elif term.kind == "each":
                yield from map(self._effort_each, term.views)
            elif term.right is None and term.left.places.ndim == 2:  # along either axis
                yield min(self._effort(term.left), self._effort(term.left.turned))
            elif term.right is not None or not term.left.is_all:  # else it is of all there is
                yield from map(self._effort, term.views)

    def _effort(self, view: View, as_rows: bool = False) -> float:
        array, places = view.array, view.places
        if not places.ndim or not array.shape:
            return 0.0
        is_turned = array.number in self.turned
        key = array.shape, places.shape, places.tobytes(), is_turned, as_rows
        if (effort := self.known.get(key)) is None:
            effort = self.known[key] = _effort(view, is_turned, as_rows)
        return effort

    def _effort_each(self, view: View) -> float:
        """That of an operand of what is computed element by element, which may be repeated."""
        return self._effort(view.without_repeats()[0])

    def _effort_of_product(self, term: Term, is_output: bool) -> float:
        """That of the factors of a product of matrices.

        What is multiplied by an input, and by what for the derivative of one, has the examples'
        rows as its own: over a batch, and in textbooks.
        """
        left, right = term.views
        if is_output and left.places.ndim == 2:
            return sum(self._effort(view.turned, as_rows=True) for view in term.views)
        given = [view.array in self.inputs for view in term.views]
        if given == [False, True]:
            return self._effort(left, as_rows=True)
        if given == [True, False]:
            return _COLUMNS + self._effort(right.turned, as_rows=True)
        of_left = min(self._effort(left), self._effort(left.turned) + _TRANSPOSED)
        of_right = min(self._effort(right) + _TRANSPOSED, self._effort(right.turned))
        return of_left + of_right

    def _view(self, view: View) -> View:
        places = self.places.get(view.array)
        return view if places is None else View(self.arrays[view.array], places[view.places])

    def _now(self, statement: Statement) -> Statement:
        """The statement as it is with the layouts that there are."""
        ways = [*map(self._with_views, self._ways(statement))]
        return ways[0] if len(ways) == 1 else min(ways, key=lambda way: sum(self._efforts_of(way)))

    def _with_views(self, statement: Statement) -> Statement:
        result = self.arrays.get(statement.result, statement.result)
        if result is statement.result and self.places.keys().isdisjoint(
            view.array for view in statement.views
        ):
            return statement
        args = [self._view(x) if isinstance(x, View) else x for x in statement.args]
        terms = [
            Term(t.kind, t.coefficient, self._view(t.left), t.right and self._view(t.right))
            for t in statement.terms
        ]
        parts = [*map(self._view, statement.parts)]
        return replace(statement, result=result, args=args, terms=terms, parts=parts)

    def _ways(self, statement: Statement) -> list[Statement]:
        """The statements that compute its result in the layout that it has; there may be none."""
        array = statement.result
        if (layout := self.layouts.get(array)) is None:
            return [statement]
        if statement.parts:
            return []
        if all(term.kind != "matmul" for term in statement.terms):
            return [_relaid(statement, layout)]
        places = array.whole.places
        ways = [(statement, places)]
        if places.ndim > 1:
            places = places.swapaxes(-1, -2)
            ways.append((_relaid(statement, Layout(places.reshape(-1), places.shape)), places))
        for way, places in ways:
            if places.shape == layout.shape and np.array_equal(places.reshape(-1), layout.order):
                return [way]
        if array.real is not None:
            return []
        return [replace(way, taken=_taken(array, places, layout)) for way, places in ways]


def _taken(array: Array, computed: Indices, layout: Layout) -> View:
    """What is taken from an array that is computed so, to have it in a layout."""
    places = np.argsort(computed.reshape(-1))[layout.order].reshape(layout.shape)
    return View(replace(array, shape=computed.shape, members=()), places)


def _relaid(statement: Statement, layout: Layout) -> Statement:
    """The statement with the elements of its result in this order, if each is by itself."""
    shape = statement.result.shape

    def spread(x: Any) -> Any:
        if isinstance(x, Array):
            assert x.data is not None
            further = x.shape[len(shape) :]
            data = layout.spread(x.data.reshape(-1, *further))
            return replace(x, shape=data.shape, data=data)
        if not isinstance(x, View):
            return x
        further = x.places.shape[len(shape) :]
        every = np.broadcast_to(x.places, (*shape, *further))
        return View(x.array, layout.spread(every.reshape(-1, *further)))

    def term(t: Term) -> Term:
        c = spread(t.coefficient)
        if t.kind == "matmul":
            assert t.right is not None
            return Term(t.kind, c, t.right, t.left)
        return Term(t.kind, c, spread(t.left), spread(t.right))

    return replace(
        statement,
        args=[*map(spread, statement.args)],
        constant=spread(statement.constant),
        terms=[*map(term, statement.terms)],
    )


def _effort(view: View, is_turned: bool, as_rows: bool) -> float:
    """What it takes to have a view: of an array that was turned, or for rows one below another."""
    if view.is_whole:
        return 0.0
    if not view.is_all and view.index() is not None:
        return _RESHAPED
    if (route := view.route()) is None:
        return _GATHERED
    effort = _RESHAPED * (bool(route.taken) + (route.part is not None))
    if route.shape is not None:
        effort += _COPIED if is_turned else _RESHAPED
    is_reshaped = view.places.shape != route.sizes
    if route.axes is None:
        effort += _RESHAPED * is_reshaped
    else:
        effort += _TURNED + _COPIED * (is_reshaped or as_rows)
    return effort


def _operands(statement: Statement) -> Iterator[tuple[View, bool]]:
    """The views that it reads, and whether they are matrices that may as well be transposed."""
    for x in (*statement.args, *statement.parts):
        if isinstance(x, View):
            yield x, False
    for term in statement.terms:
        for view in term.views:
            is_matrix = term.kind == "matmul" and view.places.ndim > 1
            yield view.turned if is_matrix and view is term.right else view, is_matrix
