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
from collections.abc import Callable, Iterable, Sequence
from linecache import getline
from math import isfinite
from operator import eq
from struct import pack
from typing import Any, NamedTuple, TypeAlias

from .. import ops
from ..engine import Value, numbers_of, operands_of, packed, topological_order
from ..errors import (
    InputError,
    MicrogradError,
    OperandError,
    TraceError,
    refusals,
    users_frame,
    users_line,
)
from ..given import Given
from ..modes import apart, innermost, paused, silences, traces, tracing
from ..numerics import number_in, plain
from ..sums import affine, chosen
from ..words import several
from .surroundings import DRAWS, Surroundings
from .tape import ordered


class Guard(NamedTuple):
    """A comparison, `sign(left, right)`, and its outcome in the trace."""

    sign: Callable[[Any, Any], Any]
    left: Value
    right: Value
    outcome: bool


# What must hold of numbers, or elementwise of arrays of them.
Rule: TypeAlias = Callable[..., Any]


class _Given(Given):
    """A Value in place of a number: of an example, or computed from such alone.

    Eagerly it is a number. So it compares as one; what indexing, a function of floats, a dict or a
    set makes of it is a use of its number; `take` chooses by it; and losses require of it what they
    do of a target. It is a plain Value as soon as the trace is complete.
    """

    __slots__ = ()

    def equals(self, other: Any) -> Any:
        trace = innermost(traces)
        return NotImplemented if trace is None else bool(trace.compared(eq, self, other))

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

    def __require__(self, rule: Rule, words: str, values: Sequence[Any]) -> None:
        if (trace := innermost(traces)) is not None:
            trace.require(rule, words, values)


_Given.__name__ = "Value"  # what messages call it: to users it is nothing else


class Trace:
    """What model and loss made of an example: it is `root`, the loss, and `shown`, the outputs.

    `given` are the leaves that stand for its numbers. Of those that chose, by their places,
    `indicators` has the leaves, and `choices` how many there were to choose among. By a rule, what
    to say where it does not hold, and how many numbers it takes, `required` has their places.
    `guards` are the comparisons, and `sources` has what each leaf that was detached is the number
    of, those that others depend on first.

    An expression has a *key*, a hash of all that it is made of: where keys are equal, expressions
    are. `path` has the keys of what each comparison compares, with its outcome, and at last those
    of the loss and the outputs, which `keys_of_shown` are. The loss is `constant` and the sum of
    `terms`: by their keys Values, each with its coefficient. It `is_total` where the engine refuses
    no number. By their ids `others` are neither given nor parameters, nor computed from such.
    """

    root: Value
    shown: list[Value]
    path: list[tuple[int, bool]]
    keys_of_shown: list[int]
    terms: dict[int, tuple[Value, float]]
    constant: float
    is_total: bool
    shape: Any = None  # of the outputs, where they are nested lists

    def __init__(self, parameters: Sequence[Value], outcomes: Iterable[bool] = ()) -> None:
        self._outcomes = iter(outcomes)  # of the first comparisons, whatever the numbers are
        self.given: list[Value] = []
        self.names: list[str] = []  # of what is given: users may label it otherwise
        self.indicators: dict[int, list[Value]] = {}
        self.choices: dict[int, int] = {}
        self.required: dict[tuple[Rule, str, int], set[tuple[int, ...]]] = {}
        self.guards: list[Guard] = []
        self.sources: dict[Value, Value] = {}
        # The keys of what depends on inputs or parameters, by ids: to hash what is given would be
        # to use it. All is kept, or ids would be given again. (Where operands have keys, the engine
        # in C does for a node what `made` does, in a tenth of the time.)
        self.keys: dict[int, int] = {}
        self.kept: list[Value] = []
        for i, parameter in enumerate(parameters):
            self._keep(parameter, hash(("parameter", i)))
        self._stand_ins: list[Value] = []  # for numbers
        self._earlier: dict[int, Value] = {}  # what was computed, but not from these, by its id
        self.others: dict[int, Value] = {}
        self._places: dict[int, int] = {}  # of what is given, by its id
        self._numbers: dict[int, tuple[Value, float]] = {}  # of what was used, before
        self._uses: dict[tuple[str, int], None] = {}
        self._indices: dict[tuple[str, int], None] = {}

    def _keep(self, value: Value, key: int) -> None:
        self.keys[id(value)] = key
        self.kept.append(value)

    def _key_of(self, x: Any) -> Any:
        """The key of a Value; of a constant its bytes, as -1.0 and -2.0 have the same hash."""
        if x.__class__ is not float:
            if (key := self.keys.get(id(x))) is not None:
                return key
            self._look_after(x)
            if x.op is not None:
                self._earlier[id(x)] = x
            (x,) = numbers_of([x])
        return pack("d", x) if x == x else "nan"

    def leaf(self, x: Any, name: str) -> Value:
        """What stands for a number of the example. Names tell such apart."""
        leaf = _Given(x, name)
        self._stand_ins.append(leaf)
        self._places[id(leaf)] = len(self.given)
        self.given.append(leaf)
        self.names.append(name)
        self._keep(leaf, hash(("given", name)))
        return leaf

    def taken(self, rows: Sequence[Any], index: Value) -> Any:
        """The row that a number of the example chooses. Raises InputError, and TraceError."""
        if (place := self._places.get(id(index))) is None:
            self.indexed(index)  # the error may be caught
            raise TraceError(
                f"take chooses by a number of the example as it is, and {index!r:.60} was computed "
                "from such: let the example have what you computed"
            )
        (i,) = numbers_of([index])
        chosen(i, len(rows), self.names[place])
        leaves = self.indicators.setdefault(place, [])
        for k in range(len(leaves), len(rows)):
            leaf = _Given(float(k == i))
            self._stand_ins.append(leaf)
            self._keep(leaf, hash(("chosen", self.names[place], k)))
            leaves.append(leaf)
        self.choices[place] = min(len(rows), self.choices.get(place, len(rows)))
        return _chosen_by(leaves[: len(rows)], rows)

    def require(self, rule: Rule, words: str, values: Sequence[Any]) -> None:
        """Let a rule hold of these in each example, if they are its. Raises InputError."""
        if not all(isinstance(x, (float, _Given)) for x in values):
            return  # a parameter is among them
        numbers = numbers_of([x if isinstance(x, Value) else Value(x) for x in values])
        if not rule(*numbers):
            raise InputError(f"{words}, got {', '.join(map(repr, numbers))}")
        places = tuple([self._places[id(x)] for x in values if id(x) in self._places])
        if len(places) < len(values):  # what was computed from the example is compared anew
            rule(*values)
        else:
            self.required.setdefault((rule, words, len(places)), set()).add(places)

    # What the engine calls (see `modes.py`).

    def made(self, node: Value) -> None:
        operands, keys = node.operands, self.keys
        found: tuple[Any, ...] = tuple(map(keys.get, map(id, operands)))
        if None in found:
            if found.count(None) == len(found):
                self._look_after(*[a for a in operands if isinstance(a, Value)])
                return
            key_of, pairs = self._key_of, zip(operands, found, strict=True)
            found = tuple([key_of(a) if k is None else k for a, k in pairs])
        keys[id(node)] = key = hash((node.op, found))
        self.kept.append(node)
        if silences.get() and innermost(silences):
            slopes = [None if a.__class__ is float else 0.0 for a in operands]
            (data,) = numbers_of([node])
            self.sources[node] = source = Value.__assemble__(data, node.op, operands, slopes)
            self._keep(source, key)
            keys[id(node)] = hash(("detached", key))
        for a in operands:
            if a.__class__ is not float and a.__class__ is not _Given:
                return
        node.__class__ = _Given
        self._stand_ins.append(node)

    def touched(self, value: Value) -> Value:
        (number,) = numbers_of([value])
        self._numbers.setdefault(id(value), (value, number))
        return self._used(value, self._uses)

    def indexed(self, value: Value) -> Value:
        return self._used(value, self._indices)

    def _used(self, value: Value, uses: dict[tuple[str, int], None]) -> Value:
        if id(value) not in self.keys:
            self._look_after(value)
        elif line := users_line():
            uses[line] = None
        return value

    def _look_after(self, *values: Value) -> None:
        """Those that are no parameters, and not computed from any: see `check_others`."""
        for value in values:
            if id(value) not in self.keys:
                self.others[id(value)] = value

    def compared(self, sign: Callable[[Any, Any], Any], x: Value, y: Any) -> bool:
        self._look_after(*[value for value in (x, y) if isinstance(value, Value)])
        y = y if isinstance(y, Value) else Value(y)
        outcome = bool(sign(*numbers_of([x, y])))
        if id(x) in self.keys or id(y) in self.keys:
            outcome = next(self._outcomes, outcome)
            self.guards.append(Guard(sign, x, y, outcome))
        return outcome

    def detached(self, value: Value) -> Value:
        (data,) = numbers_of([value])
        leaf = Value(data, value.label)
        if (key := self.keys.get(id(value))) is not None:
            self._keep(leaf, hash(("detached", key)))
            self.sources[leaf] = value
        self._look_after(value)
        return leaf

    # Afterwards.

    def close(self) -> None:
        """Nothing is in place of a number any more."""
        for value in self._stand_ins:
            value.__class__ = Value
        self._stand_ins.clear()

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

    def bring_back(self) -> bool:
        """Make numbers as they were that model or loss wrote. Were there any?"""
        numbers = self._numbers.values()
        moved = [(x, before) for x, before in numbers if repr(numbers_of([x])) != repr([before])]
        for value, before in moved:
            value.data = before
        return bool(moved)

    def identify(self) -> None:
        """Tell what was made. Raises TraceError where a number was used."""
        if problem := self.refusal:
            raise TraceError(problem)
        key = self._key_of
        results = [self.root, *self.shown]
        rows = {node.op for node in self.kept if node.op is not None}
        self.is_total = all(op.name in ops.BUILTIN and op.domain == ops.EVERYWHERE for op in rows)
        # What an operation of the user's computes may depend on what a callback changes.
        users = sorted(
            (op.name, repr(op.samples()), Surroundings(op).plainly)
            for op in rows
            if op.name not in ops.BUILTIN
        )
        self.path = [(hash((g.sign, key(g.left), key(g.right))), g.outcome) for g in self.guards]
        self.path.append((hash((*map(key, results), *users)), True))
        self.keys_of_shown = [*map(key, self.shown)]
        if self.root.op is None and id(self.root) not in self.keys:
            self.terms, (self.constant,) = {}, numbers_of([self.root])
        else:
            terms, self.constant = _linear(self.root)
            self.terms = {}
            for x, c in terms.items():  # which may be the same, made twice
                _, before = self.terms.get(key(x), (x, 0.0))
                if before * c < 0.0:  # they cancel
                    self.terms, self.constant = {key(self.root): (self.root, 1.0)}, 0.0
                    break
                self.terms[key(x)] = (x, before + c)
        order = topological_order(*self._earlier.values(), untaken=True)
        for node, operands in zip(order, operands_of(order), strict=True):
            if not self.keys.keys().isdisjoint(map(id, operands)):
                raise TraceError(
                    f"{node!r:.60} was computed from the parameters before the example was "
                    "traced, and would not change with them: compute it anew for each example"
                )
        self.serve()
        self._reached = [id(node) for node in order if node.op is None]

    def forget(self) -> None:
        """Let go of what was made."""
        self.keys.clear()
        self.kept.clear()
        self._earlier.clear()
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
    def is_spoiled(self) -> bool:
        """Whether it is NaN where the engine, which has other formulas for choices, may not be.

        Of infinite logits `cross_entropy` of a label that is traced is inf - inf, say.
        """
        return bool(self.choices) and any(
            x != x for x in numbers_of([self.root, *self.shown, *self.sides])
        )

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

    def serve(self, *shorter: Trace) -> None:
        """Have an eye on the others, and on those of shorter examples that have this program."""
        for trace in shorter:
            self.others |= trace.others
        self._numbers_of_others = packed(self.others.values())

    def check_others(self) -> None:
        """Raises TraceError where a Value that is no parameter has another number since."""
        if not self.others:
            return
        if packed(self.others.values()) != self._numbers_of_others:
            raise TraceError(
                "a Value that is no parameter of the step has another number since it was traced: "
                "name it among the parameters, which an optimizer need not have, or trace anew"
            )

    def continues(self, other: Trace) -> bool:
        """Whether model or loss used what they kept of the other one: by numbers none can tell."""
        kept = map(id, [*other.given, *other.sources])
        return not {*self.others, *self._reached}.isdisjoint(kept)

    def follows(self, other: Trace) -> bool:
        """Whether model and loss can be the same: they differ after another outcome only."""
        for mine, theirs in zip(self.path, other.path, strict=False):
            if mine != theirs:
                return mine[0] == theirs[0]
        return True


def _linear(root: Value) -> tuple[dict[Value, float], float]:
    """The root as a linear combination, with a constant, of nodes that are no such themselves.

    Where terms or constants would cancel, which compensated sums are for, the root is its own and
    only term.
    """
    coefficient = {root: 1.0}
    terms: dict[Value, float] = {}
    constants: list[float] = []
    for node in reversed(topological_order(root, untaken=True)):
        if (c := coefficient.get(node)) is None:
            continue
        if (of := _parts(node)) is None:
            terms[node] = c
            continue
        for x, factor in of:
            if not isinstance(x, Value):
                constants.append(c * factor * x)
                continue
            before = coefficient.get(x)
            if before is not None and not before * c * factor > 0.0:
                return {root: 1.0}, 0.0
            coefficient[x] = (before or 0.0) + c * factor
    nonzero = [x for x in constants if x != 0.0]
    if len(nonzero) > 1 or not all(c and isfinite(c) for c in (*terms.values(), *nonzero)):
        return {root: 1.0}, 0.0
    return terms, sum(nonzero)


def _parts(node: Value) -> list[tuple[Value | float, float]] | None:
    """What a sum, or a multiple, is a combination of, with the coefficients; None of others.

    What `take` chose is one term, and so is a difference of two terms, as logsumexp(z) - z[i] is.
    """
    op, operands = node.op, node.operands
    if op is ops.add:
        return [(x, 1.0) for x in operands]
    if op is ops.sub:
        if all((isinstance(x, Value) and x.op not in _LINEAR) or _is_taken(x) for x in operands):
            return None
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
    if op is not ops.affine_row or _is_taken(node):
        return None
    n = len(operands) // 2
    pairs = [
        (x, w) if isinstance(x, Value) else (w, x)
        for w, x in zip(operands[:n], operands[n:-1], strict=True)
    ]
    if any(isinstance(c, Value) for _, c in pairs):
        return None
    return [*pairs, (operands[-1], 1.0)]  # type: ignore[list-item]


_LINEAR = {ops.add, ops.sub, ops.neg, ops.mul, ops.div, ops.affine_row}


def _is_taken(x: Value | float) -> bool:
    """Whether it is what `take` chose."""
    if not isinstance(x, Value) or x.op is not ops.affine_row:
        return False
    terms = x.operands[len(x.operands) // 2 : -1]
    return all(isinstance(term, Value) and term.op is ops.damp for term in terms) and bool(terms)


def _chosen_by(indicators: Sequence[Value], rows: Sequence[Any]) -> Any:
    """The row whose indicator is 1: a Value, or a list of them."""
    rows = [plain(row) for row in rows]
    if not any(isinstance(row, (list, tuple)) for row in rows):
        terms = [ops.damp(row, on) for row, on in zip(rows, indicators, strict=True)]
        return affine([1.0] * len(terms), terms)
    if len({len(row) if isinstance(row, (list, tuple)) else None for row in rows}) > 1:
        raise TraceError("take chooses among rows of one length: which it is must not matter")
    return [_chosen_by(indicators, column) for column in zip(*rows, strict=True)]


def traced(
    run: Callable[[Trace], tuple[Any, Sequence[Any]]],
    parameters: Sequence[Value],
    eagerly: Callable[[], Any],
    called: Sequence[Any],
    outcomes: Iterable[bool] = (),
) -> Trace:
    """The trace of `run`, which makes its leaves, and returns the loss and the outputs.

    Comparisons have these `outcomes`, one after the other, and beyond them those of the numbers.

    It calls what is `called`, whose surroundings must not move. The states of global generators are
    left as they were. Raises TraceError, and InputError for an example without a number. What it
    raises where `eagerly`, too, which does the same with plain numbers, is refused by the library,
    that is raised: the tracing has no part in it.
    """
    trace, surroundings = Trace(parameters, outcomes), Surroundings(*called)
    generators, refused = _generators(), refusals.count
    try:
        with paused(), apart(), tracing(trace):
            root, shown = run(trace)
    except Exception as error:
        surroundings.bring_back()
        trace.bring_back()
        is_ours = isinstance(error, MicrogradError) and not isinstance(error, TraceError)
        if is_ours and (refusal := _refusal(eagerly)):
            surroundings.bring_back()
            if type(refusal) is not type(error):
                raise refusal from None
            raise  # with the names of the example's numbers
        what = error if isinstance(error, MicrogradError) else f"{type(error).__name__}: {error}"
        reasons = "; ".join(filter(None, [str(what), trace.refusal]))
        raise TraceError(f"the loss cannot be traced from one example: {reasons}") from error
    finally:
        trace.close()
        moved = repr(_generators()) != repr(generators)
        random.setstate(generators[0])
        if generators[1]:
            sys.modules["numpy.random"].set_state(generators[1])
    if trace.guards and not isinstance(root, Value) and number_in(root) == 0.0:
        root = Value(0.0)  # max(0, ...), say: of other numbers nothing is learned
    if not isinstance(root, Value):
        raise TraceError(f"the loss is to return a Value, not {root!r:.60}")
    for output in shown:
        if not isinstance(output, Value):
            raise TraceError(f"the model is to return Values, not {output!r:.60}")
    if not trace.given:
        raise InputError("an example has no number, neither an input nor a target")
    trace.root, trace.shown = root, list(shown)
    try:
        if moved:
            raise TraceError(DRAWS)
        if refusals.count > refused:
            raise TraceError(
                "model or loss catches a DomainError, which no program raises: compare Values "
                "instead, `log(x) if x > 0 else 0.0`"
            )
        trace.identify()
        if trace.bring_back():
            raise TraceError(
                "model or loss changes the number of a Value when it is called, and a program "
                "would go on with it as it is"
            )
        surroundings.check(trace.keys)
        trace.forget()
    except TraceError:
        surroundings.bring_back()
        trace.bring_back()
        raise
    return trace


def _refusal(run: Callable[[], Any]) -> MicrogradError | None:
    """What it raises, if that is an error of the library's."""
    try:
        with apart():
            run()
    except MicrogradError as error:
        return error
    except Exception:  # the user's
        return None
    return None


def _generators() -> tuple[Any, Any]:
    """The states of the global generators of random numbers, Python's and NumPy's."""
    numpys = getattr(sys.modules.get("numpy.random"), "get_state", None)
    return random.getstate(), numpys and numpys()


def _lines(uses: dict[tuple[str, int], None]) -> str:
    return several([f"{file}:{line} ({getline(file, line).strip()})" for file, line in uses])
