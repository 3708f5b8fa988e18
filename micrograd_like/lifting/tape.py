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
from collections.abc import Iterable, Sequence
from typing import Final

from .. import ops
from ..engine import Value, topological_order
from ..errors import InputError, MicrogradError
from ..ops import Op


class Sum:
    """constant + Σ coefficient · a + Σ coefficient · a · b, over numbers of assignments.

    `linear` maps a to its coefficient, `products` the pair (a, b), a <= b, to its own.
    """

    __slots__ = ("constant", "linear", "products")

    def __init__(
        self, constant: float, linear: dict[int, float], products: dict[tuple[int, int], float]
    ) -> None:
        self.constant = constant
        self.linear = linear
        self.products = products


class Call:
    """A row of the table applied to assignments (their numbers) and constants (floats)."""

    __slots__ = ("args", "op")

    def __init__(self, op: Op, args: tuple[int | float, ...]) -> None:
        self.op = op
        self.args = args


class Tape:
    """Assignments by number: `inputs` of them are given, the others are `Sum` or `Call`.

    `assignments[i]` belongs to the number inputs + i; `outputs` are numbers, or floats where an
    output does not depend on the inputs. `nodes` is how many nodes the graph had.
    """

    def __init__(
        self,
        inputs: int,
        assignments: list[Sum | Call],
        outputs: list[int | float],
        number_of: dict[Value, int],
        nodes: int,
    ) -> None:
        self.inputs: Final = inputs
        self.assignments: Final = assignments
        self.outputs: Final = outputs
        self.number_of: Final = number_of
        self.nodes: Final = nodes

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
    return " + ".join(terms) or "0.0"


# While the graph is read, a node is coefficient · entry, or a constant: (its number, _CONSTANT).
_CONSTANT = -1
_Reference = tuple[float, int]
_ZERO: Final = (0.0, _CONSTANT)


def record(outputs: Sequence[Value], inputs: Sequence[Value]) -> Tape:
    """The tape that computes `outputs` from `inputs`; all other leaves are constants.

    Raises InputError if an input is no leaf, or given twice.
    """
    reader = _Reader(inputs)
    order = topological_order(*outputs)
    reader.read(order, outputs)
    return reader.tape([reader.references[output] for output in outputs], len(order))


class _Reader:
    def __init__(self, inputs: Sequence[Value]) -> None:
        self.inputs = len(inputs)
        self.references: dict[Value, _Reference] = {}
        for i, leaf in enumerate(inputs):
            if not isinstance(leaf, Value) or leaf.op is not None:
                raise InputError(f"inputs are leaves, Values made from numbers, not {leaf!r:.80}")
            if leaf in self.references:
                raise InputError(f"{leaf!r:.80} is given twice among the inputs")
            self.references[leaf] = (1.0, i)
        # What each entry is: None for an input, a pair for a product, a Call, or for a sum the
        # list of its terms after its constant.
        self.entries: list[tuple[int, int] | Call | list[_Reference] | None] = [None] * len(inputs)
        self.known: dict[object, int] = {}
        # Sums that are multiplied by constants: they stay sums, or those of examples with target
        # +1 and -1 would not look alike.
        self.scaled: set[int] = set()

    def read(self, order: Iterable[Value], outputs: Iterable[Value]) -> None:
        references, entries, known = self.references, self.entries, self.known
        uses: dict[Value, int] = dict(Counter(outputs))
        nodes = [node for node in order if node not in references]
        for node in nodes:  # `parents`, inlined: see `Value.__slots__`
            local = node._da
            if local.__class__ is tuple:
                for parent in node._a:
                    uses[parent] = uses.get(parent, 0) + 1
                continue
            if local is not None:
                parent = node._a
                uses[parent] = uses.get(parent, 0) + 1
            if node._db is not None:
                parent = node._b
                uses[parent] = uses.get(parent, 0) + 1
        add, mul = ops.add, ops.mul
        for node in nodes:
            op = node.op
            if op is None:
                references[node] = (node.data, _CONSTANT)
                continue
            # Sums and products of two are nearly all there is: without calls they take half.
            if op is mul or op is add:
                x, y = node._a, node._b
                left = (x, _CONSTANT) if x.__class__ is float else references[x]
                right = (y, _CONSTANT) if y.__class__ is float else references[y]
                (a, i), (b, j) = left, right
                if i >= 0 and j >= 0:
                    key = (left, right) if op is add else (i, j) if i <= j else (j, i)
                    number = known.get(key)
                    if number is None:
                        number = known[key] = len(entries)
                        entries.append([_ZERO, left, right] if op is add else key)  # type: ignore[arg-type]
                    c = 1.0 if op is add else a * b
                    reference = (c, number)
                else:
                    reference = self.sum([left, right]) if op is add else self.product(left, right)
            else:
                reference = self._apply(
                    op,
                    [
                        references[a] if isinstance(a, Value) else (a, _CONSTANT)
                        for a in node.operands
                    ],
                )
            c, entry = reference
            if c != 1.0 and c != -1.0 and entry >= 0 and uses.get(node, 0) > 1:
                # A multiple that several use is worth an assignment: δ, say, of an output layer.
                reference = (1.0, self._entry(("sum", reference), [_ZERO, reference]))
            references[node] = reference

    def _entry(self, key: object, entry: tuple[int, int] | Call | list[_Reference]) -> int:
        """The number of an entry, which is made unless there is an equal one."""
        number = self.known.setdefault(key, len(self.entries))
        if number == len(self.entries):
            self.entries.append(entry)
        return number

    def _apply(self, op: Op, args: list[_Reference]) -> _Reference:
        if all(entry == _CONSTANT for _, entry in args):
            try:
                return (op.evaluate([c for c, _ in args]), _CONSTANT)
            except MicrogradError:
                pass  # it is refused, or infinite, when it is computed
        elif (rule := _RULES.get(op)) is not None:
            result = rule(self, args)
            if result is not None:
                return result
        plain = tuple(self._plain(arg) for arg in args)
        key = (op, *(p if isinstance(p, int) else _bits(p) for p in plain))
        return (1.0, self._entry(key, Call(op, plain)))

    def _plain(self, reference: _Reference) -> int | float:
        """The reference as the argument of a call: without a coefficient."""
        c, entry = reference
        if entry == _CONSTANT:
            return c
        if c == 1.0:
            return entry
        return self._entry(("sum", reference), [_ZERO, reference])

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
        key: object = tuple(rest)
        if constant != 0.0 or len(rest) != 2:
            key = ("sum", _bits(constant), *rest)
        return (1.0, self._entry(key, [(constant, _CONSTANT), *rest]))

    def product(self, x: _Reference, y: _Reference) -> _Reference:
        (a, i), (b, j) = x, y
        if i == _CONSTANT or j == _CONSTANT:
            entry = j if i == _CONSTANT else i
            if entry != _CONSTANT and isinstance(self.entries[entry], list):
                self.scaled.add(entry)
            c = a * b
            if math.isfinite(c) and (c != 0.0 or a == 0.0 or b == 0.0):
                return (c, entry)
            # Folded, the constants would overflow, or vanish.
            args = tuple(self._plain(x) for x in (x, y))
            key = (ops.mul, *(p if isinstance(p, int) else _bits(p) for p in args))
            return (1.0, self._entry(key, Call(ops.mul, args)))
        pair = (i, j) if i <= j else (j, i)
        return (a * b, self._entry(pair, pair))

    def tape(self, outputs: list[_Reference], nodes: int) -> Tape:
        """Drop what is not used, flatten the sums, and number the assignments anew."""
        roots = [self._plain(output) for output in outputs]
        self.known.clear()  # all is known now
        entries = self.entries
        # How often each entry is used, and whether all of that is as a term of sums.
        uses = [0] * len(entries)
        kept = [i in self.scaled for i in range(len(entries))]  # as assignments of their own
        for root in roots:
            if isinstance(root, int):
                uses[root] += 1
                kept[root] = True
        for number in range(len(entries) - 1, self.inputs - 1, -1):
            if not uses[number]:
                continue
            entry = entries[number]
            if isinstance(entry, list):
                for _, part in entry[1:]:
                    uses[part] += 1
            else:
                assert entry is not None
                for operand in entry.args if isinstance(entry, Call) else entry:
                    if isinstance(operand, int):
                        uses[operand] += 1
                        kept[operand] = True
        new: list[int] = list(range(self.inputs)) + [_CONSTANT] * (len(entries) - self.inputs)
        assignments: list[Sum | Call] = []
        same: dict[object, int] = {}
        for number in range(self.inputs, len(entries)):
            entry = entries[number]
            if not uses[number]:
                continue
            if not isinstance(entry, Call) and uses[number] == 1 and not kept[number]:
                continue  # it is flattened into the sum that uses it
            assert entry is not None
            made: Sum | Call
            if isinstance(entry, Call):
                made = Call(
                    entry.op, tuple(new[a] if isinstance(a, int) else a for a in entry.args)
                )
                key: object = (made.op, *(a if isinstance(a, int) else _bits(a) for a in made.args))
            else:
                made = self._flat(number, uses, kept, new, assignments)
                key = (
                    _bits(made.constant),
                    frozenset(made.linear.items()),
                    frozenset(made.products.items()),
                )
            # What was added in another order is the same sum only now.
            new[number] = same.setdefault(key, self.inputs + len(assignments))
            if new[number] == self.inputs + len(assignments):
                assignments.append(made)
        number_of = {
            node: new[entry]
            for node, (c, entry) in self.references.items()
            if entry != _CONSTANT and c == 1.0 and new[entry] != _CONSTANT
        }
        return Tape(
            self.inputs,
            assignments,
            [new[root] if isinstance(root, int) else root for root in roots],
            number_of,
            nodes,
        )

    def _flat(
        self,
        number: int,
        uses: list[int],
        kept: list[bool],
        new: list[int],
        assignments: list[Sum | Call],
    ) -> Sum:
        entries = self.entries
        constant = 0.0
        linear: dict[int, float] = {}
        products: dict[tuple[int, int], float] = {}
        stack: list[_Reference] = [(1.0, number)]
        while stack:
            c, part = stack.pop()
            if part == _CONSTANT:
                constant += c
                continue
            entry = entries[part]
            flat = part == number or (uses[part] == 1 and not kept[part])
            if isinstance(entry, list) and flat:
                stack += [(c * d, p) for d, p in reversed(entry)]
            elif isinstance(entry, tuple) and flat:
                i, j = new[entry[0]], new[entry[1]]
                pair = (i, j) if i <= j else (j, i)
                before = products.get(pair, 0.0)
                if before * c < 0.0:
                    assignments.append(Sum(0.0, {}, {pair: c}))
                    linear[self.inputs + len(assignments) - 1] = 1.0
                else:
                    products[pair] = before + c
            else:
                before = linear.get(new[part], 0.0)
                if before * c < 0.0:  # 2x - x is x, but for x = inf it is NaN
                    assignments.append(Sum(0.0, {new[part]: c}, {}))
                    linear[self.inputs + len(assignments) - 1] = 1.0
                else:
                    linear[new[part]] = before + c
        return Sum(constant, linear, products)


def _bits(x: float) -> object:
    """What tells constants apart: 0.0 from -0.0, and NaN from itself not at all."""
    return ("nan",) if math.isnan(x) else (x, math.copysign(1.0, x))


# --- rows of the table that are sums, products, or simpler for a constant argument ----------------


def _add(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    return reader.sum(args)


def _sub(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    x, (b, j) = args
    return reader.sum([x, (-b, j)])


def _neg(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    ((a, i),) = args
    return (-a, i)


def _mul(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    return reader.product(*args)


def _div(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    (a, i), (b, j) = args
    if j == _CONSTANT:
        if b == 0.0 or not math.isfinite(1.0 / b) or not math.isfinite(a / b) or a / b == 0.0:
            return None
        return (a / b, i)
    if i == _CONSTANT or (a == 1.0 and b == 1.0) or a == 0.0 or b == 0.0:
        return None
    quotient = Call(ops.ieee_div, (i, j))
    return (a / b, reader._entry((ops.ieee_div, i, j), quotient))


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
    if exponent in (1.0, 2.0, 3.0, 4.0):
        power = _pow(reader, [x, (exponent - 1.0, _CONSTANT)])
        assert power is not None
        return (exponent * power[0], power[1])
    return None


def _affine(reader: _Reader, args: list[_Reference]) -> _Reference | None:
    n = len(args) // 2
    products = [reader.product(w, x) for w, x in zip(args[:n], args[n:-1], strict=True)]
    return reader.sum([args[-1], *products])


_RULES = {
    ops.add: _add,
    ops.sub: _sub,
    ops.neg: _neg,
    ops.mul: _mul,
    ops.div: _div,
    ops.ieee_div: _div,
    ops.power: _pow,
    ops.ieee_pow: _pow,
    ops.pow_slope: _pow_slope,
    ops.affine_row: _affine,
}
