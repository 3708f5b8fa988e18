"""Inputs that are used alike, as one array: the weights of an LSTM's gates, or several kernels.

Then what is computed of them is one array, too. Arrays of one shape are *siblings* if what is
computed of each is computed of all, what they are multiplied with is the same, and an operation is
applied to the sums of several: not so to queries, keys and values, which stay apart.

All this is asked of the roles that `ragged.py` finds, which are few, and not of the tape.

The other way round it is with inputs that have no labels, which are one array: where its rows are
queries and keys, they are told apart by what is multiplied, so that each can be an array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise, takewhile
from typing import Any, Final

import numpy as np

from .form import Indices
from .names import identifier
from .tape import InputArray, Sum, Tape

# What a role is: of an input its array; of a call the operation and its arguments' roles, a tuple,
# or of any number of arguments a set; of a sum whether it has no constant, and the sets of the
# roles of its terms, and of its products.
Key = tuple[Any, ...]
OPERATION: Final = 2  # how many parts the key of a call's role has
SUM: Final = 3  # and that of a sum's
CONSTANT: Final = -1  # the role of a constant
_Row = tuple[int, range]  # an array, and places in it


def siblings(keys: Sequence[Key], groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of arrays that are siblings, within these groups of arrays of one shape.

    `keys` has the key of each role, in an order in which each comes after those that it has in it.
    """
    found = [list(group) for group in groups if len(group) > 1]
    role_of = {key[0]: role for role, key in enumerate(keys) if len(key) == 1}
    users: dict[int, list[int]] = {role_of[array]: [] for group in found for array in group}
    for role, key in enumerate(keys):
        for used in {*roles_in(key)} & users.keys():
            users[used].append(role)
    while found:
        roles = _Roles(keys, {array: group[0] for group in found for array in group})
        rest = []
        for group in found:
            alike: dict[object, list[int]] = {}
            for array in group:
                use = (*sorted(roles.of[user] for user in users[role_of[array]]),)
                alike.setdefault(use, []).append(array)
            for part in alike.values():
                role = role_of[part[0]]
                if len(part) > 1 and roles.are_worth_it(role, users[role]):
                    rest.append(part)
        if rest == found:
            break
        found = rest
    return found


class _Roles:
    """The roles when arrays are one: of `keys[role]` it is `of[role]`, which several may share."""

    def __init__(self, keys: Sequence[Key], whole: Mapping[int, int]) -> None:
        self.keys = keys
        known: dict[Key, int] = {}
        of = self.of = list[int]()
        for key in keys:
            of.append(known.setdefault(_renamed(key, of, whole), len(known)))
        self.count = Counter(of)
        calls = [role for role, key in enumerate(keys) if len(key) == OPERATION]
        self.called = {
            of[arg] for role in calls if self._several(role) for arg in roles_in(keys[role])
        }

    def _several(self, role: int) -> bool:
        return self.count[self.of[role]] > 1

    def are_worth_it(self, role: int, users: Iterable[int]) -> bool:
        """Whether an array with this role, which these roles have in them, is to be stacked."""
        several = [user for user in users if self._several(user)]
        for user in several:
            for pair in self.keys[user][2:] and self.keys[user][2]:
                if role in pair and any(other != role and self._several(other) for other in pair):
                    return False
        return any(len(self.keys[u]) == OPERATION or self.of[u] in self.called for u in several)


def roles_in(key: Key) -> Iterator[int]:
    """The roles that a key has in it."""
    if len(key) == OPERATION:
        yield from (role for role in key[1] if role != CONSTANT)
    elif len(key) == SUM:
        yield from key[1]
        for pair in key[2]:
            yield from pair


def _renamed(key: Key, of: Sequence[int], whole: Mapping[int, int]) -> Key:
    if len(key) == 1:
        return (whole.get(key[0], key[0]),)
    if len(key) == OPERATION:
        op, args = key
        return (op, type(args)(role if role == CONSTANT else of[role] for role in args))
    plain, linear, products = key
    pairs = frozenset([(min(of[i], of[j]), max(of[i], of[j])) for i, j in products])
    return (plain, frozenset([of[role] for role in linear]), pairs)


def stacked(
    parts: Sequence[InputArray], uses: Iterable[Collection[int]], names: set[str]
) -> InputArray:
    """The parts as one array, with a name of its own, which is added to `names`.

    Each of the `uses` has the places, in a part, that something is computed of. Where these are in
    one row, the rows of the parts follow one another; where they are in one column, the columns do;
    and else each part is a row.
    """
    every = [name for name, _, _ in parts]
    shape = parts[0][1]
    numbers: Indices = np.array([of for _, _, of in parts]).reshape(len(parts), -1, shape[-1])
    if len(shape) == 1:
        numbers = numbers.transpose(0, 2, 1)
    places = [np.divmod([*use], numbers.shape[2]) for use in uses]
    in_row, in_column = (all(np.ptp(at[axis]) == 0 for at in places) for axis in (0, 1))
    if in_row:
        numbers = numbers.reshape(-1, numbers.shape[2])
    elif in_column:
        numbers = numbers.transpose(1, 0, 2).reshape(numbers.shape[1], -1)
    else:
        numbers = numbers.reshape(len(parts), -1)
    stem = _common(every).rstrip("_0123456789") or _common([name[::-1] for name in every])[::-1]
    name = identifier(stem if stem[:1].isalpha() else "_".join(every), names)
    return name, tuple(n for n in numbers.shape if n > 1), numbers.ravel().tolist()


def _common(names: Sequence[str]) -> str:
    """How all names begin."""
    alike = takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def cut_apart(tape: Tape, arrays: Sequence[InputArray]) -> list[InputArray]:
    """The arrays; of those of one axis, rows that multiply results of other rows are on their own.

    A row is what one vector is multiplied with. Of a list of all weights of a transformer these
    are its queries, keys and values: in one array they would compute alike, and attention would be
    no product of matrices.
    """
    names = {name for name, _, _ in arrays}
    result: list[InputArray] = []
    found = _matrices(tape, arrays)
    for array, (name, shape, numbers) in enumerate(arrays):
        matrices = found.get(array, [])
        gone = {i for rows in matrices for row in rows for i in row}
        if rest := [number for i, number in enumerate(numbers) if i not in gone]:
            result.append((name, (len(rest),), rest) if gone else (name, shape, numbers))
        else:
            names.remove(name)
        for rows in matrices:
            part = [numbers[i] for row in rows for i in row]
            result.append((identifier(name, names), (len(rows), len(rows[0])), part))
    return result


def _matrices(tape: Tape, arrays: Sequence[InputArray]) -> dict[int, list[list[range]]]:
    """Of each array the rows that are on their own, those of one matrix together, as places."""
    vectors_of = [(array, of) for array, (_, shape, of) in enumerate(arrays) if len(shape) == 1]
    place = {number: (array, i) for array, of in vectors_of for i, number in enumerate(of)}
    row_of: dict[int, _Row] = {}
    vectors: dict[_Row, set[object]] = {}
    sums = [(n, s) for n, s in enumerate(tape.assignments, tape.inputs) if isinstance(s, Sum)]
    for number, made in sums:
        constants = [(a, (c,)) for a, c in made.linear.items()]  # that the row is multiplied with
        terms: Collection[tuple[int, Any]] = made.products or constants
        factors = {place[a]: b for a, b in terms if a in place}
        (array, first), (of, last) = min(factors, default=(0, 0)), max(factors, default=(0, 0))
        within = array == of and all(place.get(b, (-1,))[0] != array for b in factors.values())
        if within and last - first + 1 == len(factors) == len(terms) > 1:
            row = row_of[number] = (array, range(first, last + 1))
            vectors.setdefault(row, set()).add(factors[array, first])
    sides: dict[_Row, set[str]] = {row: set() for row in vectors}
    for _, made in sums:
        for pair in made.products:
            rows = sorted({row_of[n] for n in pair if n in row_of}, key=_start)
            if len(rows) == 2 and rows[0][0] == rows[1][0] and vectors[rows[0]] == vectors[rows[1]]:
                sides[rows[0]].add("left")
                sides[rows[1]].add("right")
    found: dict[int, list[list[range]]] = {}
    for array, rows_of_it in groupby(sorted(sides, key=_start), lambda row: row[0]):
        ordered = [*rows_of_it]
        if any(row.stop > after.start for (_, row), (_, after) in pairwise(ordered)):
            continue
        for _, of_vectors in groupby(ordered, lambda row: (len(row[1]), vectors[row])):
            matrices = [[*rows] for _, rows in groupby(of_vectors, sides.__getitem__)]
            uses = [sides[rows[0]] for rows in matrices]
            told = any(uses) and all(len(use) < 2 for use in uses)
            if told and all(len(rows) > 1 for rows in matrices):
                found.setdefault(array, []).extend([[row for _, row in m] for m in matrices])
    return found


def _start(row: _Row) -> tuple[int, int]:
    return row[0], row[1].start
