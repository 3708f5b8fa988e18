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
from itertools import chain
from typing import Any
from unicodedata import normalize

from .. import ops
from ..engine import Value, operands_of, topological_order
from ..errors import InputError
from ..ops import Op


@dataclass(slots=True)
class Sum:
    """constant + Σ coefficient · a + Σ coefficient · a · b, over numbers of assignments.

    `linear` maps a to its coefficient, `products` the pair (a, b), a <= b, to its own.
    """

    constant: float
    linear: dict[int, float]
    products: dict[tuple[int, int], float]


@dataclass(slots=True, eq=False)
class Call:
    """An operation applied to assignments (their numbers) and constants (floats)."""

    op: Op
    args: tuple[int | float, ...]


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
_SHORT, _LONG = 4, [(1.0, 0)] * 5  # the terms of a sum in which error terms are looked for
# A product of two entries, a sum of two, a sum of any references, or a row.
_Entry = tuple[int, int] | tuple[str, int, int] | tuple[_Reference, ...] | Call


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
) -> Tape:
    """The tape that computes `outputs` from `inputs`; all other leaves are constants.

    A leaf that has one of the `sources` is its number, computed anew: a detached Value of a trace.
    Each comes after those that it depends on. What is damped by an input among the `indicators`,
    which are 0 or 1, is a product with it: an infinity times 0 is NaN then. Raises InputError if an
    input is no leaf, or given twice.
    """
    reader = _Reader(inputs)
    reader.indicators.update(reader.references[leaf] for leaf in indicators)
    order = ordered(outputs, sources or {})
    reader.read(order, outputs, sources or {})
    return reader.tape([reader.reference(output) for output in outputs], len(order))


class _Reader:
    def __init__(self, inputs: Sequence[Value]) -> None:
        self.inputs = len(inputs)
        # A node that is just an entry has its number here; of others ~number is the place among
        # the multiples. Most are such, and a tuple for each would take a fifth of the time.
        self.references: dict[Value, int] = {}
        self.multiples: list[_Reference] = []
        for i, leaf in enumerate(inputs):
            if not isinstance(leaf, Value) or leaf.op is not None:
                raise InputError(f"inputs are leaves, Values made from numbers, not {leaf!r:.80}")
            if leaf in self.references:
                raise InputError(f"{leaf!r:.80} is given twice among the inputs")
            self.references[leaf] = i
        self.indicators: set[int] = set()
        # What each entry is; None for an input.
        self.entries: list[_Entry | None] = [None] * len(inputs)
        self.known: dict[object, int] = {}
        # Sums that are multiplied by constants: they stay sums, or those of examples with target
        # +1 and -1 would not look alike.
        self.scaled: set[int] = set()

    def read(
        self, order: Sequence[Value], outputs: Iterable[Value], sources: Mapping[Value, Value]
    ) -> None:
        references, entries, known = self.references, self.entries, self.known
        every_operands = operands_of(order)
        uses = Counter[Any](outputs)  # constants are counted, too, which does no harm
        uses.update(chain.from_iterable(every_operands))
        add, mul = ops.add, ops.mul
        place: Callable[[Any, int], int] = references.get
        for node, operands in zip(order, every_operands, strict=True):
            op = node.op
            if op is None:
                if node in sources:
                    self._refer(node, self.reference(sources[node]))
                elif node not in references:
                    self._refer(node, (node.data, _CONSTANT))
                continue
            # Sums and products of two entries are nearly all there is: in short.
            if op is add or op is mul:
                x, y = operands
                i, j = place(x, _CONSTANT), place(y, _CONSTANT)
                if i >= 0 and j >= 0:
                    key = ("+", i, j) if op is add else (i, j) if i <= j else (j, i)
                    if (number := known.get(key)) is None:
                        number = known[key] = len(entries)
                        entries.append(key)
                    references[node] = number
                    continue
            reference = self._apply(
                op,
                [self.reference(a) if isinstance(a, Value) else (a, _CONSTANT) for a in operands],
            )
            c, entry = reference
            if c != 1.0 and c != -1.0 and entry >= 0 and uses[node] > 1:
                # A multiple that several use is worth an assignment: δ, say, of an output layer.
                reference = (1.0, self.entry((reference,), (reference,)))
            self._refer(node, reference)

    def reference(self, node: Value) -> _Reference:
        place = self.references[node]
        return (1.0, place) if place >= 0 else self.multiples[~place]

    def _refer(self, node: Value, reference: _Reference) -> None:
        c, entry = reference
        if c == 1.0 and entry != _CONSTANT:
            self.references[node] = entry
        else:
            self.references[node] = ~len(self.multiples)
            self.multiples.append(reference)

    def entry(self, key: object, entry: _Entry) -> int:
        """The number of an entry, which is made unless there is an equal one."""
        number = self.known.setdefault(key, len(self.entries))
        if number == len(self.entries):
            self.entries.append(entry)
        return number

    def _apply(self, op: Op, args: list[_Reference]) -> _Reference:
        if all(entry == _CONSTANT for _, entry in args):
            numbers = [c for c, _ in args]
            try:
                return (op.evaluate(numbers), _CONSTANT)
            except ValueError:  # off its domain it is what programs give there: a pole, or NaN
                return (op.ieee(*numbers), _CONSTANT)
        if (rule := _RULES.get(op)) is not None:
            result = rule(self, args)
            if result is not None:
                return result
        return (1.0, self.call(op, tuple([self.plain(arg) for arg in args])))

    def call(self, op: Op, args: tuple[int | float, ...]) -> int:
        """The number of an operation applied to entries and constants."""
        return self.entry(_key(op, args), Call(op, args))

    def plain(self, reference: _Reference) -> int | float:
        """The reference as the argument of a call: without a coefficient."""
        c, entry = reference
        if entry == _CONSTANT:
            return c
        if c == 1.0:
            return entry
        return self.entry((reference,), (reference,))

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
        if len(rest) == 1 and constant == 0.0:
            return rest[0]
        if constant != 0.0:
            key: object = ("sum", _bits(constant), *rest)
            return (1.0, self.entry(key, ((constant, _CONSTANT), *rest)))
        entry: _Entry = tuple(rest)
        if len(rest) == 2 and rest[0][0] == rest[1][0] == 1.0:
            entry = ("+", rest[0][1], rest[1][1])
        return (1.0, self.entry(entry, entry))

    def product(self, x: _Reference, y: _Reference) -> _Reference:
        (a, i), (b, j) = x, y
        if i == _CONSTANT or j == _CONSTANT:
            entry = j if i == _CONSTANT else i
            if entry != _CONSTANT and _is_sum(self.entries[entry]):
                self.scaled.add(entry)
            c = a * b
            if entry == _CONSTANT or (math.isfinite(c) and (c != 0.0 or a == 0.0 or b == 0.0)):
                return (c, entry)
            # Folded, the constants would overflow, or vanish.
            return (1.0, self.call(ops.mul, (self.plain(x), self.plain(y))))
        pair = (i, j) if i <= j else (j, i)
        return (a * b, self.entry(pair, pair))

    def tape(self, outputs: list[_Reference], nodes: int) -> Tape:
        """Drop what is not used, flatten the sums, and number the assignments anew."""
        roots = [self.plain(output) for output in outputs]
        self.known.clear()  # all is known now
        entries: list[Any] = self.entries
        # How each entry is used: once as a term counts 1, then a sum takes it up; else 2 and more.
        uses = [0] * len(entries)
        for root in roots:
            if isinstance(root, int):
                uses[root] += 2
        for number in range(len(entries) - 1, self.inputs - 1, -1):
            if not uses[number]:
                continue
            entry = entries[number]
            if entry.__class__ is Call:
                for operand in entry.args:
                    if operand.__class__ is int:
                        uses[operand] += 2
            elif entry[0].__class__ is int:
                uses[entry[0]] += 2
                uses[entry[1]] += 2
            elif entry[0] == "+":
                uses[entry[1]] += 1
                uses[entry[2]] += 1
            else:
                for _, part in entry:
                    if part != _CONSTANT:
                        uses[part] += 1
            if number in self.scaled:
                uses[number] += 2
        self._keep_error_terms(uses)
        new: list[int] = list(range(self.inputs)) + [_CONSTANT] * (len(entries) - self.inputs)
        assignments: list[Sum | Call] = []
        same: dict[object, int] = {}
        for number in range(self.inputs, len(entries)):
            entry = entries[number]
            made: Sum | Call
            if entry.__class__ is Call:
                if not uses[number]:
                    continue
                made = Call(
                    entry.op, tuple([new[a] if a.__class__ is int else a for a in entry.args])
                )
                key: object = _key(made.op, made.args)
            elif uses[number] > 1:
                made = self._flat(entry, uses, new, assignments)
                key = (
                    _bits(made.constant),
                    frozenset(made.linear.items()),
                    frozenset(made.products.items()),
                )
            else:
                continue
            # What was added in another order is the same sum only now.
            new[number] = same.setdefault(key, self.inputs + len(assignments))
            if new[number] == self.inputs + len(assignments):
                assignments.append(made)
        number_of = {
            node: new[entry]
            for node, entry in self.references.items()
            if entry >= 0 and new[entry] != _CONSTANT
        }
        return Tape(
            self.inputs,
            assignments,
            [new[root] if isinstance(root, int) else root for root in roots],
            number_of,
            nodes,
        )

    def _keep_error_terms(self, uses: list[int]) -> None:
        """Let sums that are used once be assignments, where one sum would lose what they are for.

        So it is where a term of a short sum meets its own negative, as in compensated sums:
        (a + b) - a is what is left of b in a + b. What the terms are sums of counts with them. And
        so it is where constants would meet: (x + 2**52) - 2**52 is a whole number.
        """
        short: dict[int, list[_Reference]] = {}  # the terms of sums that have few
        # Sums that the next one may take up, each with those that have a constant in it.
        found: dict[int, list[int]] = {}
        constants: list[int]
        for number in range(self.inputs, len(uses)):
            entry: Any = self.entries[number]
            if not uses[number] or entry.__class__ is not tuple or entry[0].__class__ is int:
                continue
            if entry[0] == "+" and entry[2] not in found:
                _, part, other = entry
                if part not in short and other not in short:  # nearly all sums: in short
                    if part in found:
                        constants = found.pop(part)
                    else:
                        constants, short[number] = [], [(1.0, part), (1.0, other)]
                    if uses[number] == 1:
                        found[number] = constants
                    else:
                        _keep_apart(constants, number, uses)
                    continue
            every = [(1.0, entry[1]), (1.0, entry[2])] if entry[0] == "+" else entry
            inner = [part for _, part in every if part in found]
            meets = False
            if len(every) <= _SHORT:
                terms: list[_Reference] = []
                for c, part in every:
                    if part in found:
                        terms += [(c * d, term) for d, term in short.get(part, _LONG)]
                    elif part != _CONSTANT:
                        terms.append((c, part))
                if len(terms) <= _SHORT:
                    short[number] = terms
                    meets = _meet(terms, short)
            constants = []
            for part in inner:
                more = found.pop(part)
                if meets:
                    uses[part] += 1
                    _keep_apart(more, part, uses)
                else:
                    more += constants  # the longer one, in a chain
                    constants = more
            if every[0][1] == _CONSTANT:
                constants.append(number)
            if uses[number] == 1 and not meets:
                found[number] = constants
            else:
                uses[number] += uses[number] == 1
                _keep_apart(constants, number, uses)

    def _flat(
        self, entry: Any, uses: list[int], new: list[int], assignments: list[Sum | Call]
    ) -> Sum:
        """The sum, or the product, with all that only it uses taken up."""
        entries: list[Any] = self.entries
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
            if uses[part] == 1 and (entry := entries[part]).__class__ is tuple:
                if entry[0] == "+":
                    stack += entry[:0:-1] if c == 1.0 else ((c, entry[2]), (c, entry[1]))
                    continue
                if entry[0].__class__ is tuple:
                    stack += [(c * d, p) for d, p in entry[::-1]]
                    continue
                i, j = new[entry[0]], new[entry[1]]
                terms, term = products, (i, j) if i <= j else (j, i)
            if (before := terms.get(term)) is None:
                terms[term] = c
            elif before * c <= 0.0:  # 2x - x is x, but for x = inf it is NaN; so is 0x + x
                single = Sum(0.0, {}, {term: c}) if terms is products else Sum(0.0, {term: c}, {})
                linear[self.inputs + len(assignments)] = 1.0
                assignments.append(single)
            else:
                terms[term] = before + c
        return Sum(constant, linear, products)


def _is_sum(entry: Any) -> bool:
    return entry.__class__ is tuple and entry[0].__class__ is not int


def _meet(terms: list[_Reference], short: dict[int, list[_Reference]]) -> bool:
    """Whether a term is there with both signs; if it is a short sum, so are its terms, and so on.

    Two levels are enough for the error terms of Dekker, Knuth, and Kahan.
    """
    positive: dict[int, bool] = {}
    for _ in range(3):
        for c, number in terms:
            if positive.setdefault(number, c > 0.0) != (c > 0.0):
                return True
        terms = [(c * d, term) for c, number in terms for d, term in short.get(number, ())]
    return False


def _keep_apart(numbers: Sequence[int], root: int, uses: list[int]) -> None:
    """Of several sums with constants, only the root keeps its own in the sum of them all."""
    if len(numbers) > 1:
        for number in numbers:
            uses[number] += number != root


def _key(op: Op, args: tuple[int | float, ...]) -> object:
    return (op, *[a if a.__class__ is int else _bits(a) for a in args])


def _bits(x: float) -> object:
    """What tells constants apart: 0.0 from -0.0, and NaN from itself not at all."""
    return ("nan",) if math.isnan(x) else (x, math.copysign(1.0, x))


# --- operations that are sums, products, or simpler for a constant argument -----------------------


def _div(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    (a, i), (b, j) = args
    if j == _CONSTANT:
        if b == 0.0 or not math.isfinite(a / b) or a / b == 0.0:
            return None
        return (a / b, i)
    if i == _CONSTANT or (a == 1.0 and b == 1.0) or a == 0.0 or b == 0.0:
        return None
    return (a / b, reader.call(ops.ieee_div, (i, j)))


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
        power = (1.0, reader.call(ops.ieee_pow, (reader.plain(x), lower[0])))
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
