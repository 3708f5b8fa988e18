"""Before the lifting: sums of one term, where siblings are sums of several.

The first position of a causal attention looks at one key. Its sums over keys are no sums in the
graph: x stands where its siblings have x + y + z, and what follows would look like nothing else. A
*role* is what computes a number, whatever the number of terms: the operation with the roles of its
arguments, the set of the roles of a sum's terms. Where an assignment would have the role of others,
at least as many, if one of its operands were a sum of one term, it gets that sum: 1·x is x.

So it is with a product that is used once, and so is no assignment, where the siblings of the sum
that takes it up have theirs as terms.

Of sums over neighbours some have their first terms in common. On the tape these are one partial
sum, and what has it has other roles among its terms than its siblings. Where sums add a partial sum
to what it is a sum of itself, its terms are written out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from .siblings import CONSTANT, OPERATION, SUM, Key, roles_in, siblings, stacked
from .tape import SHORT, Call, InputArray, Sum, Tape, operands

_MOST_PASSES = 40  # each makes alike what follows from what the one before made alike

_Term = int | tuple[int, int]  # what a sum adds up: an operand, or a product of two


class _Change(NamedTuple):
    """How assignments with a key come to have another one: an old role is sums of one term then.

    The coefficient of these is c. The old role is that of an operand, or two of a product.
    """

    key: Key
    other: Key
    old: Any
    c: float


class Evened(NamedTuple):
    """The tape with such sums added at its end, and what can be computed at once, in `levels`.

    Partial sums that are written out wherever they are used are in none. Of `inputs` that are
    several stacked ones `parts` has these, by the name of the whole.
    """

    tape: Tape
    levels: list[list[int]]
    inputs: Sequence[InputArray]
    parts: Mapping[str, Sequence[InputArray]]


def evened(tape: Tape, inputs: Sequence[InputArray], shared: int, changes: bool = True) -> Evened:
    """The tape with sums, partial sums and inputs made alike; of inputs the first `shared`.

    Without `changes` nothing is.
    """
    evener = _Evener(tape, inputs, shared)
    for _ in range(_MOST_PASSES * changes):
        if not evener.passes():
            break
    tape = replace(tape, assignments=evener.assignments)
    return Evened(tape, evener.levels(), evener.arrays, evener.parts)


class _Evener:
    def __init__(self, tape: Tape, arrays: Sequence[InputArray], shared: int) -> None:
        self.inputs = tape.inputs
        self.outputs = tape.outputs
        self.assignments = list(tape.assignments)
        self.order = list(range(tape.inputs, tape.inputs + len(self.assignments)))
        self.arrays = arrays
        self.parts: dict[str, list[InputArray]] = {}
        self.to_stack = _of_one_shape(arrays, shared)
        self.singles: dict[tuple[_Term, float], int] = {}  # the sums of one term that there are
        self.known: dict[Key, int] = {}  # roles
        self.roles: list[int] = []
        self._find_roles()

    def levels(self) -> list[list[int]]:
        """The numbers by the longest path to them from an input, which is that of their roles."""
        level_of: list[int] = []
        for key in self.known:
            below = [level_of[role] for role in roles_in(key)]
            level_of.append(-1 if len(key) == 1 else max(below, default=-1) + 1)
        levels: list[list[int]] = [[] for _ in range(max(level_of, default=-1) + 1)]
        for number in self.order:
            levels[level_of[self.roles[number]]].append(number)
        return levels

    def passes(self) -> bool:
        """Change what makes something alike; whether there was anything."""
        changed = self._stacks() or self._writes_out() or self._inserts()
        if changed:
            self._find_roles()
        return changed

    def _inserts(self) -> bool:
        """Put in sums of one term; whether there are any."""
        changes = self._changes()
        order: list[int] = []
        for number in self.order:
            if number in changes:
                first = self.inputs + len(self.assignments)
                self._change(number - self.inputs, changes[number])
                order += range(first, self.inputs + len(self.assignments))
            order.append(number)
        self.order = order
        return bool(changes)

    def _key(self, assignment: Sum | Call) -> Key:
        of = self.roles
        if isinstance(assignment, Call):
            args = [of[a] if a.__class__ is int else CONSTANT for a in assignment.args]
            op = assignment.op
            return (op, frozenset(args) if op.arity is None else tuple(args))
        linear, products = assignment.linear, assignment.products
        return (
            assignment.constant == 0.0,
            frozenset([of[a] for a in linear]),
            # Products are many, and their roles few.
            frozenset([_pair(i, j) for i, j in {(of[a], of[b]) for a, b in products}]),
        )

    def _operands(self, number: int) -> list[int]:
        return operands(self.assignments[number - self.inputs])

    def _find_roles(self) -> None:
        known, key, inputs = self.known, self._key, self.inputs
        known.clear()
        roles = self.roles = [CONSTANT] * (inputs + len(self.assignments))
        for array, (_, _, numbers) in enumerate(self.arrays):
            role = known[array,] = len(known)
            for number in numbers:
                roles[number] = role
        self.members: dict[int, list[int]] = {}
        for number in self.order:
            role = known.setdefault(key(self.assignments[number - inputs]), len(known))
            roles[number] = role
            self.members.setdefault(role, []).append(number)

    def _stacks(self) -> bool:
        """Make siblings one array; whether there are any."""
        groups = self.to_stack and siblings([*self.known], self.to_stack)
        self.to_stack = []
        names = {name for name, _, _ in self.arrays}
        stacks: dict[int, InputArray | None] = {}
        for group in groups:
            parts = [self.arrays[k] for k in group]
            whole = stacked(parts, self._uses(*group[:2]), names)
            self.parts[whole[0]] = parts
            stacks |= dict.fromkeys(group) | {group[0]: whole}
        arrays = [stacks.get(k, array) for k, array in enumerate(self.arrays)]
        self.arrays = [array for array in arrays if array]
        return bool(groups)

    def _uses(self, array: int, sibling: int) -> Iterator[list[int]]:
        """The places in an array that something is computed of, but not of its sibling."""
        place = {number: i for i, number in enumerate(self.arrays[array][2])}
        own, other = self.known[array,], self.known[sibling,]
        for key, role in self.known.items():
            if own in (roles := {*roles_in(key)}) and other not in roles:
                for number in self.members[role]:
                    yield [place[n] for n in self._operands(number) if n in place]

    def _writes_out(self) -> bool:
        """Write out partial sums that are added to what they are sums of; whether there are any."""
        keys = [*self.known]
        partial = {
            role
            for key in keys
            if len(key) == SUM
            for role in key[1]
            if len(of := keys[role]) == SUM and of[0] and not of[2] and of[1] <= key[1]
        }
        changed = False
        for role, key in enumerate(keys):
            if len(key) == SUM and not key[1].isdisjoint(partial):
                for number in self.members[role]:
                    changed |= self._is_written_out(number - self.inputs, partial)
        if changed:
            used = {output for output in self.outputs if isinstance(output, int)}
            order, self.order = self.order, []
            for number in reversed(order):
                if number in used or self.roles[number] not in partial:
                    used.update(self._operands(number))
                    self.order.append(number)
            self.order.reverse()
        return changed

    def _is_written_out(self, place: int, partial: set[int]) -> bool:
        """Replace partial sums by their terms in a sum, unless they were made to cancel others."""
        user: Any = self.assignments[place]
        linear: dict[int, float] = {}
        if self.inputs + place in self.rounded:
            return False
        for a, c in user.linear.items():
            terms = {a: 1.0}
            if self.roles[a] in partial:
                part: Any = self.assignments[a - self.inputs]
                terms = part.linear
                if a in self.rounded:
                    return False
            if not all(c * d > 0.0 for d in terms.values()):
                return False
            for term, d in terms.items():
                linear[term] = linear.get(term, 0.0) + c * d
        self.may_add -= len(linear)
        if self.may_add < 0:
            return False
        self.assignments[place] = replace(user, linear=linear)
        return True

    @cached_property
    def rounded(self) -> set[int]:
        """Sums that others compute the rounding errors of: in these, a term meets its negative."""
        found: set[int] = set()
        for number in self.order:
            signs: dict[int, bool] = {}
            reached, terms = [number], [*self._few(number).items()]
            if len({c > 0.0 for _, c in terms}) < 2:
                continue
            for _ in range(3):  # as the tape does
                reached += [a for a, _ in terms]
                if any(signs.setdefault(a, c > 0.0) != (c > 0.0) for a, c in terms):
                    found.update(reached)
                    break
                terms = [(b, c * d) for a, c in terms for b, d in self._few(a).items()]
        return found

    def _few(self, number: int) -> Mapping[int, float]:
        """The terms of a sum, if they are few."""
        made = self.assignments[number - self.inputs] if number >= self.inputs else None
        return made.linear if isinstance(made, Sum) and len(made.linear) <= SHORT else {}

    @cached_property
    def may_add(self) -> int:
        """How many terms more there may be where sums are written out: as many as there were."""
        return sum(len(operands(assignment)) for assignment in self.assignments)

    def _sums(self) -> dict[Any, list[tuple[int, float]]]:
        """By the role of their terms the sums of nothing else, of several lengths or of a product.

        Each with its role and the coefficient of its terms.
        """
        found: dict[Any, list[tuple[int, float]]] = {}
        for key, role in self.known.items():
            if len(key) == OPERATION or len(key) == 1 or not key[0]:
                continue
            if len(key[1]) + len(key[2]) != 1:
                continue
            sums: list[Any] = [self.assignments[n - self.inputs] for n in self.members[role]]
            lengths = {len(s.linear) + len(s.products) for s in sums}
            if len(lengths) < 2 and not key[2]:
                continue
            c, *others = {c for s in sums for c in (*s.linear.values(), *s.products.values())}
            if not others and c != 0.0 and math.isfinite(c):
                (of_terms,) = key[1] or key[2]
                found.setdefault(of_terms, []).append((role, c))
        return found

    def _changes(self) -> dict[int, _Change]:
        """How numbers are to change."""
        changes: dict[int, _Change] = {}
        sums = self._sums()
        if not sums:
            return changes
        sizes = Counter({role: len(numbers) for role, numbers in self.members.items()})
        for key, role in [*self.known.items()]:
            if len(key) == 1:
                continue
            found = next(
                (
                    _Change(key, other, old, c)
                    for old, new, c in self._replacements(key, sums)
                    for other in _replaced(key, old, new)
                    if (known := self.known.get(other)) is not None
                    and known not in (role, new)
                    and sizes[known] >= sizes[role]
                ),
                None,
            )
            if found:
                changes |= dict.fromkeys(self.members[role], found)
        return changes

    def _replacements(
        self, key: Key, sums: dict[Any, list[tuple[int, float]]]
    ) -> Iterator[tuple[Any, int, float]]:
        """Roles in the key that may become roles of sums, with the sums' coefficients."""
        for old in _mentioned(key):
            for new, c in sums.get(old, ()):
                if self.known.get(key) != new and (len(key) != OPERATION or c == 1.0):
                    yield old, new, c

    def _change(self, place: int, change: _Change) -> None:
        of, assignment = self.roles, self.assignments[place]
        key, other, old, c = change
        if isinstance(assignment, Call):
            args = list(assignment.args)
            for k, a in enumerate(args):
                is_old = a.__class__ is int and of[a] == old
                if is_old and (assignment.op.arity is None or key[1][k] != other[1][k]):
                    args[k] = self._single(a, c)
            self.assignments[place] = Call(assignment.op, tuple(args))
            return
        linear: dict[int, float] = {}
        products: dict[tuple[int, int], float] = {}
        is_linear = not isinstance(old, tuple) and key[1] != other[1]
        gone = {} if is_linear else key[2] - other[2]
        for a, d in assignment.linear.items():
            if is_linear and of[a] == old:
                linear[self._single(a, c)] = d / c
            else:
                linear[a] = d
        for (a, b), d in assignment.products.items():
            if _pair(of[a], of[b]) not in gone:
                products[a, b] = d
            elif isinstance(old, tuple):
                linear[self._single((a, b), c)] = d / c
            else:
                factor, rest = (a, b) if of[a] == old else (b, a)
                products[_pair(self._single(factor, c), rest)] = d / c
        self.assignments[place] = Sum(assignment.constant, linear, products)

    def _single(self, term: Any, c: float) -> int:
        """The number of the sum c · term."""
        number = self.singles.get((term, c))
        if number is None:
            number = self.singles[term, c] = self.inputs + len(self.assignments)
            made = Sum(0.0, {}, {term: c}) if isinstance(term, tuple) else Sum(0.0, {term: c}, {})
            self.assignments.append(made)
        return number


def _of_one_shape(arrays: Sequence[InputArray], shared: int) -> list[list[int]]:
    """The arrays that have axes, in groups of one shape; of those of the first `shared` inputs."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, (_, shape, numbers) in enumerate(arrays):
        if shape and max(numbers) < shared:
            groups.setdefault(shape, []).append(k)
    return [group for group in groups.values() if len(group) > 1]


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def _mentioned(key: Key) -> Iterable[Any]:
    """The roles in a key, and of a sum those of its products."""
    if len(key) == OPERATION:
        return sorted(set(key[1]) - {CONSTANT})
    return [*sorted({*key[1], *(role for pair in key[2] for role in pair)}), *sorted(key[2])]


def _replaced(key: Key, old: Any, new: int) -> Iterator[Key]:
    """The key with the old role replaced by the new one, in one place."""
    if len(key) == OPERATION:
        op, args = key
        if isinstance(args, frozenset):
            yield (op, args - {old} | {new})
        else:
            for k, role in enumerate(args):
                if role == old:
                    yield (op, (*args[:k], new, *args[k + 1 :]))
        return
    plain, linear, products = key
    if isinstance(old, tuple):
        yield (plain, linear | {new}, products - {old})
        return
    for pair in sorted(products):
        for k in (0, 1):
            if pair[k] == old:
                yield (plain, linear, products - {pair} | {_pair(new, pair[1 - k])})
    if old in linear:
        yield (plain, linear - {old} | {new}, products)
