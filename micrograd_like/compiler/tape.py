"""First step: a graph of Values becomes a tape, a list of simplified assignments.

The graph is linearised, parents first. On the way constants are folded, products with 1 and sums
with 0 are copies, equal sub-expressions are one, and constant factors move outwards. Then what is
not needed is dropped, and chains of additions, with the products that are used nowhere else, are
flattened into *sums of products*: constant + Σ coefficient · a + Σ coefficient · a · b.
What remains is of two kinds, `Sum` and `Call`, in an order in which each can be computed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse
from sys import float_info
from typing import Any
from unicodedata import normalize

from .. import ops
from ..engine import Value, numbers_of, operands_of, topological_order
from ..errors import InputError, OperandError, TraceError
from ..gradients import Arithmetic, Edges, partial_graphs, partials_of, sweep
from ..modes import apart, innermost, silences, traces, tracing
from ..ops import BUILTIN, Op

# The name of an array of inputs, its shape, and the numbers of the inputs in it.
InputArray = tuple[str, tuple[int, ...], Sequence[int]]


@dataclass(slots=True)
class Sum:
    """constant + Σ coefficient · a + Σ coefficient · a · b, over numbers of assignments.

    `linear` maps a to its coefficient, `products` the pair (a, b), a <= b, to its own.
    """

    constant: float
    linear: dict[int, float]
    products: dict[tuple[int, int], float]

    @property
    def key(self) -> object:
        """What equal sums have in common, in whatever order their terms are."""
        if not self.linear and self.constant == 0.0 and len(self.products) == 1:
            return next(iter(self.products.items()))  # in short: a tenth of the tape's time
        terms = frozenset(self.linear.items()), frozenset(self.products.items())
        return (_bits(self.constant), *terms)


@dataclass(slots=True, eq=False)
class Call:
    """An operation applied to assignments (their numbers) and constants (floats)."""

    op: Op
    args: tuple[int | float, ...]


def operands(assignment: Sum | Call) -> list[int]:
    """The numbers that an assignment is computed of."""
    if isinstance(assignment, Call):
        return [a for a in assignment.args if a.__class__ is int]
    numbers = [*assignment.linear]
    for pair in assignment.products:
        numbers += pair
    return numbers


@dataclass(frozen=True, slots=True)
class Tape:
    """Assignments by number: `inputs` of them are given, the others are `Sum` or `Call`.

    `assignments[i]` belongs to the number inputs + i; `outputs` are numbers, or floats where an
    output does not depend on the inputs. `nodes` is how many nodes the graph had.
    """

    inputs: int
    assignments: list[Sum | Call]
    outputs: list[int | float]
    number_of: dict[Value, int]
    adjoint_of: dict[Value, int]
    nodes: int

    def __str__(self) -> str:
        lines = [f"v{self.inputs + i} = {_text(a)}" for i, a in enumerate(self.assignments)]
        outputs = ", ".join(_name(o) for o in self.outputs)
        return "\n".join([*lines, f"return {outputs}"])


def _name(x: int | float) -> str:
    return repr(x) if isinstance(x, float) else f"v{x}"


def _text(assignment: Sum | Call) -> str:
    if isinstance(assignment, Call):
        return f"{assignment.op.name}({', '.join(map(_name, assignment.args))})"
    terms = [repr(assignment.constant)] if assignment.constant != 0.0 else []
    terms += [f"{c!r}·v{a}" for a, c in assignment.linear.items()]
    terms += [f"{c!r}·v{a}·v{b}" for (a, b), c in assignment.products.items()]
    return " + ".join(terms)


def word(text: str) -> str:
    """The text as part of a Python name: what cannot be in one is replaced, so it is never code."""
    return "".join(c if f"a{c}".isidentifier() else "_" for c in normalize("NFKC", text))


# While the graph is read, a node is coefficient · entry, or a constant: (its number, _CONSTANT).
_CONSTANT = -1
_Reference = tuple[float, int]
SHORT = 4  # terms has a sum, at most, in which error terms are looked for
# An entry is a product of two others, (i, j); a sum of two, ("+", i, j); a sum of any references,
# (reference, ...); or an operation and its arguments, (op, ...), of which constants are `_bits`.
_Entry = tuple[Any, ...]


def ordered(outputs: Sequence[Value], sources: Mapping[Value, Value]) -> list[Value]:
    """The graph of the outputs, parents first, and before it those that leaves are numbers of."""
    seen: set[Value] = set()
    order = []
    for leaf, source in sources.items():
        order += [*topological_order(source, seen=seen, untaken=True), leaf]
        seen.add(leaf)
    return order + topological_order(*outputs, seen=seen, untaken=True)


def record(
    outputs: Sequence[Value],
    inputs: Sequence[Value],
    sources: Mapping[Value, Value] | None = None,
    indicators: Iterable[Value] = (),
    *,
    roots: Sequence[Value] = (),
    wrt: Sequence[Value] = (),
) -> Tape:
    """The tape that computes `outputs` from `inputs`; all other leaves are constants.

    After the outputs come the derivatives of each of the `roots` with respect to `wrt`, whose
    adjoints are made on the tape itself, out of the table's partials. A leaf that has one of the
    `sources` is its number, computed anew: a detached Value of a trace. Each comes after those that
    it depends on. What is damped by an input among the `indicators`, which are 0 or 1, is a product
    with it: an infinity times 0 is NaN then. Raises InputError if an input is no leaf, or given
    twice, StaleGraphError if data was changed since a node was made, and TraceError for an
    operation of the user's whose partials are not functions of Values.
    """
    reader = _Reader(inputs)
    reader.indicators.update(reader.places[leaf] for leaf in indicators)
    edges = [lasting_edges(root, wrt) for root in roots]
    found = chain.from_iterable([ds for of in edges for _, ds in of.values() if ds is not None])
    partials = [d for d in found if d.__class__ is not float]
    order = ordered([*outputs, *roots, *partials], sources or {})
    reader.read(order, [*outputs, *partials], sources or {})
    derivatives: list[_Reference] = []
    adjoint: dict[Value, Any] = {}
    for root, of in zip(roots, edges, strict=True):
        adjoint = sweep(root, wrt, of, reader)
        derivatives += [reader.reference(adjoint.get(target, 0.0)) for target in wrt]
    results = [reader.reference(output) for output in outputs]
    return reader.tape(results, derivatives, adjoint if len(roots) == 1 else {}, len(order))


def lasting_edges(root: Value, wrt: Sequence[Value]) -> dict[Value, Edges]:
    """The partials as graphs, which must be right for other inputs, too. Raises TraceError."""
    try:
        with apart(silences):  # within no_grad, too, they are graphs
            edges = partial_graphs(root, wrt)
    except OperandError as error:
        raise TraceError(str(error)) from error
    of_users = {op for op in {node.op for node in edges} if op and op.name not in BUILTIN}
    for node in edges if of_users else ():
        if (op := node.op) not in of_users or op is None:
            continue
        asked = [_Asked(a.data) if isinstance(a, Value) else a for a in (*node.operands, node)]
        with tracing(reads := _Reads()):
            partials_of(op, tuple(asked[:-1]), asked[-1])  # type: ignore[arg-type]
        if reads.any:
            raise TraceError(
                f"a partial of {op.name} compares its arguments, or uses their data, and a program "
                "would keep for ever what that gives here: write it in the library's operations, "
                "such as where(greater(x, 0), 1.0, 0.0) for `1.0 if x > 0 else 0.0`"
            )
    return edges


class _Reads:
    """What `tracing` tells of numbers that are used: whether any was."""

    any = False

    def made(self, node: Value) -> None:
        node.__class__ = _Asked

    def touched(self, value: Value) -> None:
        self.any = True

    def compared(self, sign: Callable[[float, float], bool], x: Value, y: Any) -> bool:
        self.any = True
        return sign(*numbers_of([x, y if isinstance(y, Value) else Value(y)]))

    def detached(self, value: Value) -> Value:
        self.any = True
        (data,) = numbers_of([value])
        return Value(data)


class _Asked(Value):
    """An argument of a partial. It tells of `x == 0` too, which is always false for Values."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if reads := innermost(traces):
            reads.any = True
        return self is other

    __hash__ = Value.__hash__


class _Reader(Arithmetic):
    """Makes entries: of a graph that it reads, and of the adjoints that a sweep makes with it.

    An adjoint is a place (see `places`), or a float.
    """

    def __init__(self, inputs: Sequence[Value]) -> None:
        self.inputs = len(inputs)
        # A node that is just an entry has its number here; of others ~number is the place among
        # the multiples. Most are such, and a tuple for each would take a fifth of the time.
        self.places: dict[Value, int] = {}
        self.multiples: list[_Reference] = []
        # The number of each entry, in order: equal ones are one.
        self.known: dict[_Entry, int] = {}  # an input is (None, its number)
        for i, leaf in enumerate(inputs):
            if not isinstance(leaf, Value) or leaf.op is not None:
                raise InputError(f"inputs are leaves, Values made from numbers, not {leaf!r:.80}")
            if leaf in self.places:
                raise InputError(f"{leaf!r:.80} is given twice among the inputs")
            self.places[leaf] = self.known[None, i] = i
        self.indicators: set[int] = set()
        # What is multiplied by constants. Sums of these stay sums, or those of examples with target
        # +1 and -1 would not look alike.
        self.scaled: set[int] = set()
        self.made = 0  # operations of sweeps

    def read(
        self, order: Sequence[Value], users: Iterable[Value], sources: Mapping[Value, Value]
    ) -> None:
        """Make the entries of a graph; `users` has each node once for each use of it outside."""
        places, known = self.places, self.known
        every_operands = operands_of(order)
        uses = Counter[Any](users)  # constants are counted, too, which does no harm
        uses.update(chain.from_iterable(every_operands))
        add, mul = ops.add, ops.mul
        place: Callable[[Any, int], int] = places.get
        number_of = known.setdefault
        for node, operands in zip(order, every_operands, strict=True):
            op = node.op
            if op is None:
                if node in sources:
                    places[node] = places[sources[node]]
                elif node not in places:
                    places[node] = self._place((node.data, _CONSTANT))
                continue
            # Sums and products of two entries are nearly all there is, where neurons are not one
            # operation: this saves a sixth of the time of all that is compiled.
            if op is add or op is mul:
                x, y = operands
                i, j = place(x, _CONSTANT), place(y, _CONSTANT)
                if i >= 0 and j >= 0:
                    key = ("+", i, j) if op is add else (i, j) if i <= j else (j, i)
                    places[node] = number_of(key, len(known))
                    continue
            reference = self._apply(op, [self.reference(a) for a in operands])
            if uses[node] > 1:
                reference = self._shared(reference)
            places[node] = self._place(reference)

    def reference(self, x: Value | float | int) -> _Reference:
        """What a node, a number or an adjoint is."""
        if isinstance(x, float):
            return (x, _CONSTANT)
        place = x if isinstance(x, int) else self.places[x]
        return (1.0, place) if place >= 0 else self.multiples[~place]

    def _place(self, reference: _Reference) -> int:
        c, entry = reference
        if c == 1.0 and entry != _CONSTANT:
            return entry
        self.multiples.append(reference)
        return ~(len(self.multiples) - 1)

    def _shared(self, reference: _Reference) -> _Reference:
        """What several use: a multiple is worth an assignment, δ, say, of an output layer."""
        c, entry = reference
        if c == 1.0 or c == -1.0 or entry == _CONSTANT:
            return reference
        return (1.0, self.entry((reference,)))

    def entry(self, entry: _Entry) -> int:
        """The number of an entry, which is made unless there is an equal one."""
        return self.known.setdefault(entry, len(self.known))

    # What a sweep calls.

    def times(self, g: Any, partials: Sequence[Any]) -> list[Any]:
        places, known = self.places, self.known
        if g.__class__ is int and g < 0 and len(partials) > 1:
            shared = self.multiples[~g] = self._shared(self.multiples[~g])
            g = self._place(shared)
        terms = []
        for d in partials:
            if d.__class__ is float:
                if d == 1.0:
                    terms.append(g)
                    continue
            elif g.__class__ is int:
                if g >= 0 and (j := places[d]) >= 0:
                    terms.append(known.setdefault((g, j) if g <= j else (j, g), len(known)))
                    self.made += 1
                    continue
            elif g == 1.0:
                terms.append(places[d])
                continue
            terms.append(self._made(self.product(self.reference(g), self.reference(d))))
        return terms

    def plus(self, x: Any, y: Any) -> Any:
        if x.__class__ is int and y.__class__ is int and x >= 0 and y >= 0:
            self.made += 1
            return self.known.setdefault(("+", x, y), len(self.known))
        return self._made(self.sum([self.reference(x), self.reference(y)]))

    def apply(self, op: Op, *args: Any) -> Any:
        return self._made(self._apply(op, [self.reference(arg) for arg in args]))

    def _made(self, reference: _Reference) -> int | float:
        c, entry = reference
        if entry == _CONSTANT:
            return c
        self.made += 1
        return self._place(reference)

    # How operations become entries.

    def _apply(self, op: Op, args: list[_Reference]) -> _Reference:
        for _, entry in args:
            if entry != _CONSTANT:
                break
        else:
            numbers = [c for c, _ in args]
            try:
                return (op.evaluate(numbers), _CONSTANT)
            except ValueError:  # off its domain it is what programs give there: a pole, or NaN
                return (op.ieee(*numbers), _CONSTANT)
        if (rule := _RULES.get(op)) is not None:
            result = rule(self, args)
            if result is not None:
                return result
        return self.call(op, args)

    def call(self, op: Op, args: Iterable[_Reference]) -> _Reference:
        """An operation applied to entries and constants."""
        arguments = [self.plain(arg) for arg in args]
        return (1.0, self.entry((op, *[a if a.__class__ is int else _bits(a) for a in arguments])))

    def plain(self, reference: _Reference) -> int | float:
        """The reference as the argument of a call: without a coefficient."""
        c, entry = reference
        if entry == _CONSTANT:
            return c
        return entry if c == 1.0 else self.entry((reference,))

    def sum(self, terms: list[_Reference]) -> _Reference:
        """The sum of the terms as a reference."""
        constant = 0.0
        rest = []
        for term in terms:
            if term[1] == _CONSTANT:
                constant += term[0]
            else:
                rest.append(term)
        if not rest:
            return (constant, _CONSTANT)
        if constant != 0.0:
            rest.insert(0, (constant, _CONSTANT))
        elif len(rest) == 1:
            return rest[0]
        elif len(rest) == 2 and rest[0][0] == rest[1][0] == 1.0:
            return (1.0, self.entry(("+", rest[0][1], rest[1][1])))
        return (1.0, self.entry(tuple(rest)))

    def product(self, x: _Reference, y: _Reference) -> _Reference:
        (a, i), (b, j) = x, y
        if i == _CONSTANT or j == _CONSTANT:
            entry = j if i == _CONSTANT else i
            c = a * b
            if entry == _CONSTANT:
                return (c, entry)
            self.scaled.add(entry)
            if math.isfinite(c) and (abs(c) >= float_info.min or a == 0.0 or b == 0.0):
                return (c, entry)
            return self.call(ops.mul, (x, y))  # folded, they would overflow, vanish, or lose digits
        return (a * b, self.entry((i, j) if i <= j else (j, i)))

    def tape(
        self,
        outputs: list[_Reference],
        derivatives: list[_Reference],
        adjoint: Mapping[Value, Any],
        nodes: int,
    ) -> Tape:
        """Drop what is not used, flatten the sums, and number the assignments anew."""
        roots = [self.plain(reference) for reference in (*outputs, *derivatives)]
        entries = list(self.known)
        self.known.clear()  # all is known now
        # How each entry is used: once as a term counts 1, then a sum takes it up; else 2 and more.
        uses = [0] * len(entries)
        for root in roots:
            if isinstance(root, int):
                uses[root] += 2
        used = {x: uses[x] for x in roots[len(outputs) :] if isinstance(x, int)}
        sums: list[int] = []
        for number in range(len(entries) - 1, self.inputs - 1, -1):
            if not uses[number]:
                continue
            entry = entries[number]
            first = entry[0]
            if first.__class__ is int:
                i, j = entry
                uses[i] += 2
                uses[j] += 2
            elif first.__class__ is str:
                _, i, j = entry
                uses[i] += 1
                uses[j] += 1
                sums.append(number)
            elif first.__class__ is tuple:
                for _, i in entry:
                    if i != _CONSTANT:
                        uses[i] += 1
                sums.append(number)
            else:
                for i in entry:
                    if i.__class__ is int:
                        uses[i] += 2
        for number in self.scaled:
            if uses[number] == 1 and _is_sum(entries[number]):
                uses[number] = 2
        _ErrorTerms(entries, uses).keep(reversed(sums))
        # What is but a derivative comes last, in their order, which arrays of them have then, too.
        last = [root for root, count in used.items() if uses[root] == count]
        others = filterfalse(set(last).__contains__, range(self.inputs, len(entries)))
        new: list[int] = list(range(self.inputs)) + [_CONSTANT] * (len(entries) - self.inputs)
        assignments: list[Sum | Call] = []
        same: dict[object, int] = {}
        for number in chain(others, filter(self.inputs.__le__, last)):
            if not uses[number]:
                continue
            entry = entries[number]
            first = entry[0]
            made: Sum | Call
            key: object
            if first.__class__ in _TAKEN_UP:
                if uses[number] == 1:
                    continue
                made = self._flat(entries, entry, uses, new, assignments, same)
                key = made.key
            else:
                args: list[Any] = [new[a] if a.__class__ is int else a for a in entry[1:]]
                key = (first, *args)
                made = Call(first, tuple([a if a.__class__ is int else a[0] for a in args]))
            # What was added in another order is the same sum only now.
            new[number] = same.setdefault(key, self.inputs + len(assignments))
            if new[number] == self.inputs + len(assignments):
                assignments.append(made)
        return Tape(
            self.inputs,
            assignments,
            [new[root] if isinstance(root, int) else root for root in roots],
            self._numbers(self.places, new),
            self._numbers(adjoint, new),
            nodes + self.made,
        )

    def _numbers(self, places: Mapping[Value, Any], new: Sequence[int]) -> dict[Value, int]:
        """The numbers of those that have one on the tape."""
        numbers = {}
        for node, place in places.items():
            if place.__class__ is int:
                if place < 0:
                    c, place = self.multiples[~place]
                    if c != 1.0 or place == _CONSTANT:
                        continue
                if (number := new[place]) != _CONSTANT:
                    numbers[node] = number
        return numbers

    def _flat(
        self,
        entries: list[_Entry],
        entry: _Entry,
        uses: list[int],
        new: list[int],
        assignments: list[Sum | Call],
        same: dict[object, int],
    ) -> Sum:
        """The sum, or the product, with all that only it uses taken up."""
        constant = 0.0
        linear: dict[int, float] = {}
        products: dict[tuple[int, int], float] = {}
        if entry[0].__class__ is int:
            i, j = new[entry[0]], new[entry[1]]
            return Sum(0.0, {}, {(i, j) if i <= j else (j, i): 1.0})
        stack: list[Any] = [entry[2], entry[1]] if entry[0] == "+" else [*reversed(entry)]
        while stack:
            part = stack.pop()
            c = 1.0
            if part.__class__ is tuple:
                c, part = part
                if part == _CONSTANT:
                    constant += c
                    continue
            terms: dict[Any, float] = linear
            term: Any = new[part]
            if uses[part] == 1:
                entry = entries[part]
                first = entry[0]
                if first.__class__ is int:
                    i, j = new[first], new[entry[1]]
                    terms, term = products, (i, j) if i <= j else (j, i)
                elif first.__class__ is str:
                    stack += entry[:0:-1] if c == 1.0 else ((c, entry[2]), (c, entry[1]))
                    continue
                elif first.__class__ is tuple:
                    stack += [(c * d, p) for d, p in entry[::-1]]
                    continue
            if (before := terms.get(term)) is None:
                terms[term] = c
            elif before * c <= 0.0:  # 2x - x is x, but for x = inf it is NaN; so is 0x + x
                single = Sum(0.0, {}, {term: c}) if terms is products else Sum(0.0, {term: c}, {})
                number = same.setdefault(single.key, self.inputs + len(assignments))
                if number == self.inputs + len(assignments):
                    assignments.append(single)
                linear[number] = linear.get(number, 0.0) + 1.0
            else:
                terms[term] = before + c
        return Sum(constant, linear, products)


class _ErrorTerms:
    """Sums that are used once are to be assignments, where one sum would lose what they are for.

    So it is where a term of a short sum meets its own negative, as in compensated sums:
    (a + b) - a is what is left of b in a + b. What the terms are sums of counts with them. What is
    left is added up by itself before it is added to anything else. And so it is where constants
    would meet: (x + 2**52) - 2**52 is a whole number.
    """

    def __init__(self, entries: list[_Entry], uses: list[int]) -> None:
        self.entries, self.uses = entries, uses
        # Of sums that are not of positive terms alone, as nearly all are, the terms if these are
        # few, and those with a constant among the sums that it takes up, and itself.
        self.short: dict[int, list[_Reference] | None] = {}
        self.constants: dict[int, list[int]] = {}
        self.errors: set[int] = set()  # what is left, and sums of nothing else

    def keep(self, sums: Iterable[int]) -> None:
        """Count one use more of such sums. The numbers of all sums are given in order."""
        entries, uses, marked = self.entries, self.uses, self.constants
        for number in sums:
            entry = entries[number]
            if entry[0].__class__ is str:
                _, i, j = entry
                if i not in marked and j not in marked:
                    continue
            terms = _references(entry)
            has_constant = terms[0][1] == _CONSTANT
            if not has_constant and all(c > 0.0 and part not in marked for c, part in terms):
                continue
            own = [term for term in terms if term[1] != _CONSTANT]
            inner = [part for _, part in own if uses[part] == 1 and _is_sum(entries[part])]
            short = own if len(terms) <= SHORT else None
            if inner:
                short = self._terms(number)
            self.short[number] = short
            meets = short is not None and self._meet(short)
            if meets or self.errors.issuperset(part for _, part in own):
                self.errors.add(number)
            constants: list[int] = []
            for part in inner:
                more = marked.get(part, [])
                if meets or (part in self.errors and number not in self.errors):
                    uses[part] += 1
                    self._keep_apart(more, part)
                else:
                    shorter, constants = sorted((constants, more), key=len)
                    constants += shorter
            if has_constant:
                constants.append(number)
            if uses[number] > 1 or meets:
                uses[number] += uses[number] == 1
                self._keep_apart(constants, number)
                constants = []
            if short is not None or constants or number in self.errors:
                marked[number] = constants

    def _is_taken_up(self, number: int) -> bool:
        return self.uses[number] == 1 and _is_sum(self.entries[number])

    def _terms(self, number: int) -> list[_Reference] | None:
        """The terms of a sum, and of those that it takes up, if they are few."""
        terms: list[_Reference] = []
        rest: list[_Reference] = [(1.0, number)]
        while rest:
            c, part = rest.pop()
            if part != number and not self._is_taken_up(part):
                terms.append((c, part))
                continue
            if part in self.short:
                if (known := self.short[part]) is None:
                    return None
                terms += [(c * d, p) for d, p in known]
            else:
                inner = _references(self.entries[part])
                if len(inner) > SHORT:
                    return None
                rest += [(c * d, p) for d, p in inner if p != _CONSTANT]
            if len(terms) + len(rest) > SHORT:
                return None
        return terms

    def _meet(self, terms: list[_Reference]) -> bool:
        """Whether a term is there with both signs; if it is a short sum, so are its terms, etc.

        Two levels are enough for the error terms of Dekker, Knuth, and Kahan.
        """
        positive: dict[int, bool] = {}
        for _ in range(3):
            for c, number in terms:
                if positive.setdefault(number, c > 0.0) != (c > 0.0):
                    return True
            sums = [(c, number) for c, number in terms if _is_sum(self.entries[number])]
            if not sums:
                break
            terms = [(c * d, term) for c, number in sums for d, term in self._terms(number) or ()]
        return False

    def _keep_apart(self, numbers: Sequence[int], root: int) -> None:
        """Of several sums with constants, only the root keeps its own in the sum of them all."""
        if len(numbers) > 1:
            for number in numbers:
                self.uses[number] += number != root


def _references(entry: _Entry) -> _Entry:
    """The terms of a sum."""
    return ((1.0, entry[1]), (1.0, entry[2])) if entry[0].__class__ is str else entry


# The classes of what sums and products begin with, which the sum takes up that alone uses them.
_TAKEN_UP = {int, str, tuple}


def _is_sum(entry: _Entry) -> bool:
    return entry[0].__class__ is str or entry[0].__class__ is tuple


def _bits(x: float) -> tuple[float, float]:
    """A constant with what tells it from others: 0.0 from -0.0, and NaN from itself not at all."""
    return (math.nan, 1.0) if x != x else (x, math.copysign(1.0, x))


# --- operations that are sums, products, or simpler for a constant argument -----------------------


def _div(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    (a, i), (b, j) = args
    if j == _CONSTANT:
        if b == 0.0 or not float_info.min <= abs(a / b) < math.inf:
            return None
        return (a / b, i)
    if i == _CONSTANT or (a == 1.0 and b == 1.0) or a == 0.0 or b == 0.0:
        return None
    return (a / b, reader.call(ops.ieee_div, ((1.0, i), (1.0, j)))[1])


def _pow(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    x, (exponent, j) = args
    if j != _CONSTANT:
        return None
    if exponent == 1.0:
        return x
    if exponent == 0.0:
        return (1.0, _CONSTANT)
    if exponent == 2.0:
        return reader.product(x, x)
    if exponent == 3.0:
        return reader.product(reader.product(x, x), x)
    return None


def _pow_slope(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    x, (exponent, j) = args
    if j != _CONSTANT:
        return None
    if exponent == 0.0:
        return (0.0, _CONSTANT)
    lower: _Reference = (exponent - 1.0, _CONSTANT)
    power = _pow(reader, [x, lower])
    if power is None:
        power = reader.call(ops.ieee_pow, (x, lower))
    return (exponent * power[0], power[1])


def _affine(reader: _Reader, args: list[_Reference]) -> _Reference:
    n = len(args) // 2
    products = [reader.product(w, x) for w, x in zip(args[:n], args[n:-1], strict=True)]
    return reader.sum([args[-1], *products])


def _damp(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    x, indicator = args
    is_plain = indicator[1] in reader.indicators and math.isfinite(x[0])
    return reader.product(x, indicator) if is_plain else None


def _minus(reference: _Reference) -> _Reference:
    return (-reference[0], reference[1])


# What an operation is as a reference; None where it stays a call.
_Rule = Callable[["_Reader", list[_Reference]], _Reference | None]
_RULES: dict[Op, _Rule] = {
    ops.add: lambda reader, args: reader.sum(args),
    ops.sub: lambda reader, args: reader.sum([args[0], _minus(args[1])]),
    ops.neg: lambda reader, args: _minus(args[0]),
    ops.mul: lambda reader, args: reader.product(*args),
    ops.div: _div,
    ops.ieee_div: _div,
    ops.power: _pow,
    ops.ieee_pow: _pow,
    ops.pow_slope: _pow_slope,
    ops.affine_row: _affine,
    ops.damp: _damp,
}
