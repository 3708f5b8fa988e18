"""A trace: what model and loss make of one example, and what they decide by its numbers.

A program computes what was written if nothing in it was decided for this example alone. So a trace
keeps a *guard* for each comparison of what depends on the inputs or the parameters, which is to
have the same outcome for other examples; what is detached, or made under `no_grad`, is a leaf with
a *source*, whose number it is; and where a number itself was used, the trace is refused. A number
of the example that chooses by `take` has *indicators*: leaves that are 1 for what it chooses, and 0
for what it does not.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from linecache import getline
from math import isfinite
from operator import eq
from typing import Any, NamedTuple

from .. import ops
from ..engine import Value, numbers_of, operands_of
from ..errors import InputError, MicrogradError, OperandError, TraceError, users_frame
from ..modes import apart, innermost, silences, traces, tracing
from ..numerics import number_in, plain
from ..sums import affine, chosen
from ..words import several
from .tape import ordered


class Guard(NamedTuple):
    """A comparison, `sign(left, right)`, and its outcome in the trace."""

    sign: Callable[[Any, Any], Any]
    left: Value
    right: Value
    outcome: bool


class _Given(Value):
    """A Value in place of a number: of an example, or computed from such alone.

    Eagerly it is a number. So it compares as one; what indexing, a function of floats, a dict or a
    set makes of it is a use of its number; and `take` chooses by it. It is a plain Value as soon as
    the trace is complete.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        trace = innermost(traces)
        is_number = not isinstance(other, Value) and number_in(other) is not None
        if trace is None or not (is_number or isinstance(other, _Given)):
            return NotImplemented
        return bool(trace.compared(eq, self, other))

    def __hash__(self) -> int:
        if (trace := innermost(traces)) and users_frame()[1] == 2:  # the user's code asks for it
            trace.touched(self)
        return object.__hash__(self)

    def __bool__(self) -> bool:
        return self != 0.0 if innermost(traces) else super().__bool__()

    def __float__(self) -> float:
        trace = innermost(traces)
        return numbers_of([trace.touched(self)])[0] if trace else super().__float__()

    def __int__(self) -> int:
        trace = innermost(traces)
        return int(numbers_of([trace.indexed(self)])[0] if trace else super().__float__())

    __index__ = __int__

    def __take__(self, rows: Any) -> Any:
        if (trace := innermost(traces)) is None:
            raise OperandError(f"take chooses by a plain number: {self!r:.60} was part of a trace")
        return trace.taken(plain(rows), self)


_Given.__name__ = "Value"  # what messages call it: to users it is nothing else


class Trace:
    """What model and loss made of an example: it is `root`, the loss, and `shown`, the outputs.

    `given` are the leaves that stand for its numbers. Of those that chose, by their places,
    `indicators` has the leaves, and `choices` how many there were to choose among. `guards` are the
    comparisons, and `sources` has what each leaf that was detached is the number of, those that
    others depend on first.

    An expression has a *key*, a hash of all that it is made of: where keys are equal, expressions
    are. `path` has the keys of what each comparison compares, with its outcome, and at last those
    of the loss and the outputs, which `keys_of_shown` are. The loss is `constant` and
    the sum of `terms`: by their keys Values, each with its coefficient.
    """

    root: Value
    shown: list[Value]
    path: list[tuple[int, bool]]
    keys_of_shown: list[int]
    terms: dict[int, tuple[Value, float]]
    constant: float
    shape: Any = None  # of the outputs, where they are nested lists

    def __init__(self, parameters: Sequence[Value]) -> None:
        self._parameters = parameters
        self.given: list[Value] = []
        self.names: list[str] = []  # of what is given: users may label it otherwise
        self.indicators: dict[int, list[Value]] = {}
        self.choices: dict[int, int] = {}
        self.guards: list[Guard] = []
        self.sources: dict[Value, Value] = {}
        # What depends on inputs or parameters, by its id. (To hash what is given is to use it.)
        self._live: dict[int, Value] = {id(p): p for p in parameters}
        self._places: dict[int, int] = {}  # of what is given, by its id
        self._uses: dict[tuple[str, int], None] = {}
        self._indices: dict[tuple[str, int], None] = {}

    def leaf(self, x: Any, name: str) -> Value:
        """What stands for a number of the example. Names tell such apart."""
        leaf = _Given(x, name)
        self._places[id(leaf)] = len(self.given)
        self.given.append(leaf)
        self.names.append(name)
        self._live[id(leaf)] = leaf
        return leaf

    def taken(self, rows: Sequence[Any], index: Value) -> Any:
        """The row that a number of the example chooses. Raises InputError, and TraceError."""
        if (place := self._places.get(id(index))) is None:
            raise TraceError(
                f"take chooses by a number of the example as it is, and {index!r:.60} was computed "
                "from such: let the example have what you computed"
            )
        (i,) = numbers_of([index])
        chosen(i, len(rows), self.names[place])
        leaves = self.indicators.setdefault(place, [])
        for k in range(len(leaves), len(rows)):
            leaf = _Given(float(k == i))
            self._live[id(leaf)] = leaf
            leaves.append(leaf)
        self.choices[place] = min(len(rows), self.choices.get(place, len(rows)))
        return _chosen_by(leaves[: len(rows)], rows)

    # What the engine calls (see `modes.py`).

    def made(self, node: Value) -> None:
        operands, live = node.operands, self._live
        for a in operands:  # (`any` of a generator would take twice as long)
            if id(a) in live:
                break
        else:
            return
        live[id(node)] = node
        if innermost(silences):
            slopes = [None if a.__class__ is float else 0.0 for a in operands]
            (data,) = numbers_of([node])
            self.sources[node] = source = Value.__assemble__(data, node.op, operands, slopes)
            live[id(source)] = source
        for a in operands:
            if a.__class__ is not float and a.__class__ is not _Given:
                return
        node.__class__ = _Given

    def touched(self, value: Value) -> Value:
        return self._used(value, self._uses)

    def indexed(self, value: Value) -> Value:
        return self._used(value, self._indices)

    def _used(self, value: Value, uses: dict[tuple[str, int], None]) -> Value:
        if id(value) in self._live:
            frame, _ = users_frame()
            uses[frame.f_code.co_filename, frame.f_lineno] = None
        return value

    def compared(self, sign: Callable[[Any, Any], Any], x: Value, y: Any) -> bool:
        y = y if isinstance(y, Value) else Value(y)
        outcome = bool(sign(*numbers_of([x, y])))
        if id(x) in self._live or id(y) in self._live:
            self.guards.append(Guard(sign, x, y, outcome))
        return outcome

    def detached(self, value: Value) -> Value:
        (data,) = numbers_of([value])
        leaf = Value(data, value.label)
        if id(value) in self._live:
            self._live[id(leaf)] = leaf
            self.sources[leaf] = value
        return leaf

    # Afterwards.

    def close(self) -> None:
        """Nothing is in place of a number any more."""
        for value in self._live.values():
            if isinstance(value, _Given):
                value.__class__ = Value  # type: ignore[assignment]

    @property
    def refusal(self) -> str:
        """Why the trace is refused: the lines at which a number was used. Empty if none was."""
        problems = []
        if self._uses:
            problems.append(
                f"the number of a Value is used at {_lines(self._uses)}, which is not known for "
                "other examples and weights: compare the Values themselves, write softmax(values) "
                "for a softmax, and take what is to be a constant from .detach()"
            )
        if self._indices:
            problems.append(
                f"a number of the example is used as an integer at {_lines(self._indices)}, which "
                "is not known for other examples: write take(rows, i) for rows[i]"
            )
        return "; ".join(problems)

    def identify(self) -> None:
        """Tell what was made. Raises TraceError where a number was used."""
        if problem := self.refusal:
            raise TraceError(problem)
        known = {p: hash(("parameter", i)) for i, p in enumerate(self._parameters)}
        known |= {leaf: hash(("given", n)) for leaf, n in zip(self.given, self.names, strict=True)}
        for place, leaves in self.indicators.items():
            known |= {on: hash(("chosen", self.names[place], k)) for k, on in enumerate(leaves)}
        results = [self.root, *self.shown]
        live = self._live
        order = ordered([*results, *self.sides], self.sources)
        for node, operands in zip(order, operands_of(order), strict=True):
            if node in known:
                continue
            if node in self.sources:
                key: tuple[Any, ...] = ("detached", known[self.sources[node]])
            elif node.op is None:
                key = (repr(node.data),)
            else:
                key = (node.op, *[known[a] if isinstance(a, Value) else repr(a) for a in operands])
                if id(node) not in live and not live.keys().isdisjoint(map(id, operands)):
                    raise TraceError(
                        f"{node!r:.60} was computed from the parameters before the example was "
                        "traced, and would not change with them: compute it anew for each example"
                    )
            known[node] = hash(key)
        self.path = [
            (hash((g.sign, known[g.left], known[g.right])), g.outcome) for g in self.guards
        ]
        self.path.append((hash(tuple([known[x] for x in results])), True))
        self.keys_of_shown = [known[x] for x in self.shown]
        if self.root.op is None and id(self.root) not in live:
            self.terms, (self.constant,) = {}, numbers_of([self.root])
        else:
            terms, self.constant = _linear(self.root, order)
            self.terms = {known[x]: (x, c) for x, c in terms.items()}
        live.clear()
        self._places.clear()

    @property
    def leaves(self) -> list[Value]:
        """What the example gives: its numbers, then the indicators of those that choose."""
        return [*self.given, *[leaf for leaves in self.indicators.values() for leaf in leaves]]

    @property
    def sides(self) -> list[Value]:
        """What the comparisons compare: two for each."""
        return [side for guard in self.guards for side in (guard.left, guard.right)]

    @property
    def could_lose_nan(self) -> bool:
        """Whether a NaN on the way, as 0·inf is, may not be seen in what comes out."""
        from .padding import may_lose

        if self.guards:
            return True
        indicators = {leaf for leaves in self.indicators.values() for leaf in leaves}
        order = ordered([self.root, *self.shown], self.sources)
        kinds: set[tuple[Any, ...]] = {
            (node.op, *[None if isinstance(a, Value) else a for a in operands])
            for node, operands in zip(order, operands_of(order), strict=True)
            if node.op is not None and operands[-1] not in indicators
        }
        return any(may_lose(kind[0], kind[1:]) for kind in kinds)

    def follows(self, other: Trace) -> bool:
        """Whether model and loss can be the same: they differ after another outcome only."""
        for mine, theirs in zip(self.path, other.path, strict=False):
            if mine != theirs:
                return mine[0] == theirs[0]
        return True


def _linear(root: Value, order: Sequence[Value]) -> tuple[dict[Value, float], float]:
    """The root as a linear combination, with a constant, of nodes that are no such themselves.

    The order has the root and what it depends on, parents first. Where terms or constants would
    cancel, which compensated sums are for, the root is its own and only term.
    """
    whole = {root: 1.0}, 0.0
    coefficient = {root: 1.0}
    terms: dict[Value, float] = {}
    constants = []
    for node in reversed(order):
        if (c := coefficient.pop(node, None)) is None:
            continue
        if (parts := _parts(node)) is None:
            terms[node] = c
            continue
        for part, factor in parts:
            share = c * factor
            if not isinstance(part, Value):
                constants.append(share * part)
            elif part not in coefficient:
                coefficient[part] = share
            elif coefficient[part] * share > 0.0:
                coefficient[part] += share
            else:
                return whole
    nonzero = [x for x in constants if x != 0.0]
    if len(nonzero) > 1 or not all(c and isfinite(c) for c in (*terms.values(), *nonzero)):
        return whole
    return terms, sum(nonzero)


def _parts(node: Value) -> list[tuple[Value | float, float]] | None:
    """What a sum, or a multiple, is a combination of, with the coefficients; None of others."""
    op, operands = node.op, node.operands
    if op is ops.add:
        return [(x, 1.0) for x in operands]
    if op is ops.sub:
        return [(operands[0], 1.0), (operands[1], -1.0)]
    if op is ops.neg:
        return [(operands[0], -1.0)]
    if op is ops.mul or op is ops.div:
        x, y = operands
        if op is ops.mul and isinstance(y, Value):
            x, y = y, x
        if isinstance(y, Value) or not isinstance(x, Value) or not y:
            return None
        return [(x, y if op is ops.mul else 1.0 / y)]
    if op is not ops.affine_row:
        return None
    n = len(operands) // 2
    pairs = [
        (x, w) if isinstance(x, Value) else (w, x)
        for w, x in zip(operands[:n], operands[n:-1], strict=True)
    ]
    if any(isinstance(c, Value) for _, c in pairs):
        return None
    return [*pairs, (operands[-1], 1.0)]  # type: ignore[list-item]


def _chosen_by(indicators: Sequence[Value], rows: Sequence[Any]) -> Any:
    """The row whose indicator is 1: a Value, or a list of them."""
    rows = [plain(row) for row in rows]
    if not any(isinstance(row, (list, tuple)) for row in rows):
        terms = [ops.damp(row, on) for row, on in zip(rows, indicators, strict=True)]
        return affine([1.0] * len(terms), terms)
    if len({len(row) if isinstance(row, (list, tuple)) else None for row in rows}) > 1:
        raise TraceError("take chooses among rows of one length: which it is must not matter")
    return [_chosen_by(indicators, column) for column in zip(*rows, strict=True)]


def traced(run: Callable[[Trace], tuple[Any, Sequence[Any]]], parameters: Sequence[Value]) -> Trace:
    """The trace of `run`, which makes its leaves, and returns the loss and the outputs.

    The states of global generators are left as they were. Raises TraceError, and InputError for an
    example without a number.
    """
    trace = Trace(parameters)
    generators = _generators()
    try:
        with apart(), tracing(trace):
            root, shown = run(trace)
    except Exception as error:
        what = error if isinstance(error, MicrogradError) else f"{type(error).__name__}: {error}"
        reasons = "; ".join(filter(None, [str(what), trace.refusal]))
        raise TraceError(f"the loss cannot be traced from one example: {reasons}") from error
    finally:
        trace.close()
        moved = repr(_generators()) != repr(generators)
        random.setstate(generators[0])
        if generators[1]:
            sys.modules["numpy.random"].set_state(generators[1])
    if not isinstance(root, Value):
        raise TraceError(f"the loss is to return a Value, not {root!r:.60}")
    for output in shown:
        if not isinstance(output, Value):
            raise TraceError(f"the model is to return Values, not {output!r:.60}")
    if not trace.given:
        raise InputError("an example has no number, neither an input nor a target")
    if moved:
        raise TraceError("model or loss draws random numbers, which differ from example to example")
    trace.root, trace.shown = root, list(shown)
    trace.identify()
    return trace


def _generators() -> tuple[Any, Any]:
    """The states of the global generators of random numbers, Python's and NumPy's."""
    numpys = sys.modules.get("numpy.random")
    return random.getstate(), numpys and numpys.get_state()


def _lines(uses: dict[tuple[str, int], None]) -> str:
    return several([f"{file}:{line} ({getline(file, line).strip()})" for file, line in uses])
