"""A trace: what model and loss make of one example, and what they decide by its numbers.

A program computes what was written if nothing in it was decided for this example alone. So a trace
keeps a *guard* for each comparison of what depends on the inputs or the parameters, which is to
have the same outcome for other examples; what is detached, or made under `no_grad`, is a leaf with
a *source*, whose number it is; and where a number itself was used, the trace is refused.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from linecache import getline
from operator import eq
from typing import Any, NamedTuple

from .. import losses, ops
from ..engine import Value, numbers_of, operands_of
from ..errors import InputError, MicrogradError, TraceError, users_frame
from ..modes import apart, innermost, silences, traces, tracing
from ..numerics import number, number_in, plain
from ..sums import affine
from ..words import several
from .tape import ordered


class Guard(NamedTuple):
    """A comparison, `sign(left, right)`, and its outcome in the trace."""

    sign: Callable[[Any, Any], Any]
    left: Value
    right: Value
    outcome: bool


class _Given(Value):
    """A Value in place of a number: an input, a target, or what is computed from these alone.

    Eagerly it is a float. So it compares as one, and what a dict or a set makes of it is a use of
    its number. It is a plain Value as soon as the trace is complete.
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


_Given.__name__ = "Value"  # what messages call it: to users it is nothing else


class Trace:
    """What model and loss made of an example: it is `root`, the loss, and `logits`, the outputs.

    `given` are the leaves that stand for the example, of which the first `inputs` are the model's;
    `row` turns a target into numbers, `guards` are the comparisons, and `sources` has what each
    leaf that was detached is the number of, those that others depend on first.

    `path` has a hash of what each comparison compares, with its outcome, and at last one of the
    loss and the outputs: where they are equal, the expressions are.
    """

    root: Value
    logits: list[Value]
    row: Callable[[Any], Sequence[float]]
    path: list[tuple[int, bool]]

    def __init__(self, parameters: Sequence[Value], inputs: Sequence[Any]) -> None:
        self._parameters = parameters
        self.given: list[Value] = [_Given(x, f"X[{i}]") for i, x in enumerate(inputs)]
        self.inputs = len(self.given)
        self.guards: list[Guard] = []
        self.sources: dict[Value, Value] = {}
        # What depends on inputs or parameters, by its id. (To hash what is given is to use it.)
        self._live: dict[int, Value] = {}
        self._keep(*parameters, *self.given)
        self._uses: dict[tuple[str, int], None] = {}

    def _keep(self, *values: Value) -> None:
        self._live.update({id(value): value for value in values})

    def targets(self, numbers: Sequence[Any], names: str) -> list[Value]:
        """The leaves that stand for the target."""
        leaves: list[Value] = [_Given(t, names.format(k)) for k, t in enumerate(numbers)]
        self.given += leaves
        self._keep(*leaves)
        return leaves

    # What the engine calls (see `modes.py`).

    def made(self, node: Value) -> None:
        operands = node.operands
        if self._live.keys().isdisjoint(map(id, operands)):
            return
        self._keep(node)
        if innermost(silences):
            slopes = [None if a.__class__ is float else 0.0 for a in operands]
            (data,) = numbers_of([node])
            self.sources[node] = source = Value.__assemble__(data, node.op, operands, slopes)
            self._keep(source)
        if all(a.__class__ is float or a.__class__ is _Given for a in operands):
            node.__class__ = _Given

    def touched(self, value: Value) -> None:
        if id(value) in self._live:
            frame, _ = users_frame()
            self._uses[frame.f_code.co_filename, frame.f_lineno] = None

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
            self._keep(leaf)
            self.sources[leaf] = value
        return leaf

    # Afterwards.

    def close(self) -> None:
        """Nothing is in place of a number any more."""
        for value in self._live.values():
            if isinstance(value, _Given):
                value.__class__ = Value  # type: ignore[assignment]

    def identify(self) -> None:
        """Tell what was made. Raises TraceError where a number was used."""
        if self._uses:
            lines = [f"{file}:{line} ({getline(file, line).strip()})" for file, line in self._uses]
            raise TraceError(
                f"the number of a Value is used at {several(lines)}, which is not known for other "
                "examples and weights: compare the Values themselves, and take what is to be a "
                "constant from .detach()"
            )
        known = {x: hash(("given", i)) for i, x in enumerate((*self._parameters, *self.given))}
        results = [self.root, *self.logits]
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
                ids = map(id, operands)
                if id(node) not in self._live and not self._live.keys().isdisjoint(ids):
                    raise TraceError(
                        f"{node!r:.60} was computed from the parameters before the example was "
                        "traced, and would not change with them: compute it anew for each example"
                    )
            known[node] = hash(key)
        self.path = [
            (hash((g.sign, known[g.left], known[g.right])), g.outcome) for g in self.guards
        ]
        self.path.append((hash(tuple([known[x] for x in results])), True))
        self._live.clear()

    @property
    def sides(self) -> list[Value]:
        """What the comparisons compare: two for each."""
        return [side for guard in self.guards for side in (guard.left, guard.right)]

    def follows(self, other: Trace) -> bool:
        """Whether model and loss can be the same: they differ after another outcome only."""
        for mine, theirs in zip(self.path, other.path, strict=False):
            if mine != theirs:
                return mine[0] == theirs[0]
        return True


def traced(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Value],
    example: tuple[Sequence[float], Any],
    parameters: Sequence[Value],
) -> Trace:
    """The trace of `loss(model(x), y)`; the states of global generators are left as they were.

    Raises TraceError, and InputError for an example without a number.
    """
    x, y = example
    trace = Trace(parameters, x)
    generators = _generators()
    try:
        with apart(), tracing(trace):
            outputs = model(trace.given[:])
            logits = trace.logits = outputs if isinstance(outputs, list) else [outputs]
            y = plain(y)
            if (smoothing := _smoothing(loss)) is not None:
                trace.row = partial(_one_hot, count=(n := len(logits)))
                targets = trace.targets(trace.row(y), "Y[{}]")
                if smoothing:
                    targets = [(1.0 - smoothing) * t + smoothing / n for t in targets]
                root = ops.logsumexp(*logits) - affine(targets, logits)
            elif isinstance(y, (list, tuple)):
                trace.row = partial(_several, count=len(y))
                root = loss(outputs, trace.targets(y, "Y[{}]"))
            else:
                trace.row = _single
                root = loss(outputs, trace.targets([y], "Y")[0])
    except Exception as error:
        what = error if isinstance(error, MicrogradError) else f"{type(error).__name__}: {error}"
        raise TraceError(f"the loss cannot be traced from one example: {what}") from error
    finally:
        trace.close()
        moved = repr(_generators()) != repr(generators)
        random.setstate(generators[0])
        if generators[1]:
            sys.modules["numpy.random"].set_state(generators[1])
    if not isinstance(root, Value):
        raise TraceError(f"the loss is to return a Value, not {root!r:.60}")
    for output in logits:
        if not isinstance(output, Value):
            raise TraceError(f"the model is to return Values, not {output!r:.60}")
    if not trace.given:
        raise InputError("an example has no number, neither an input nor a target")
    if moved:
        raise TraceError("model or loss draws random numbers, which differ from example to example")
    trace.root = root
    trace.identify()
    return trace


def _generators() -> tuple[Any, Any]:
    """The states of the global generators of random numbers, Python's and NumPy's."""
    numpys = sys.modules.get("numpy.random")
    return random.getstate(), numpys and numpys.get_state()


def _single(target: Any) -> Sequence[float]:
    if hasattr(target, "__len__"):
        raise InputError(f"a target is a number, as in the example that was traced: {target!r:.60}")
    return (number(target),)


def _several(target: Any, count: int) -> Sequence[float]:
    target = plain(target)
    if not isinstance(target, (list, tuple)) or len(target) != count:
        raise InputError(
            f"a target has {count} numbers, as in the example that was traced: {target!r:.60}"
        )
    return target


def _smoothing(loss: Any) -> float | None:
    """The label smoothing of `losses.cross_entropy`, as it is or by `partial`; None of others."""
    if loss is losses.cross_entropy:
        return 0.0
    if getattr(loss, "func", None) is not losses.cross_entropy or loss.args:
        return None
    options = dict(loss.keywords)
    smoothing = number(options.pop("label_smoothing", 0.0))
    return smoothing if not options and 0.0 <= smoothing <= 1.0 else None


def _one_hot(label: Any, count: int) -> Sequence[float]:
    """A label as a row of zeros with a one, or probabilities as they are. Raises InputError."""
    if hasattr(label, "__len__"):
        return [number(t) for t in losses.probabilities(list(plain(label)), count)]
    label = number(label)
    if not 0 <= label < count or label != int(label):
        raise InputError(
            f"a label is an integer from 0 to {count - 1}, got {label!r}: a step takes no label to "
            "be ignored, leave such examples out"
        )
    return [float(k == label) for k in range(count)]
