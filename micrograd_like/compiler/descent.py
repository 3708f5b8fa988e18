"""`step.training(optimizer)`: while a step learns, the parameters are arrays, and the Values wait.

The optimizer's rule is the one of `optim.py`, and its numbers are the same: for a parameter alone
arrays compute what floats do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from ..engine import Value, numbers_of, packed, set_slot_of_grad
from ..errors import DivergenceError, InputError, TraceError
from ..modes import apart, land, traces, tracing, waiting, waits
from ..numerics import plain
from ..optim import LISTS, SGD, Adam, AdamW, Library, Memory, Optimizer, Snapshot
from .surroundings import Surroundings


def _norm(gradient: Any) -> float:
    square = float(gradient @ gradient)
    return math.sqrt(square) if 1e-280 < square < math.inf else math.hypot(*gradient.tolist())


ARRAYS = Library(lambda f, *columns: f(*columns), np.sqrt, _norm, min)


_OURS = SGD, Adam, AdamW


class Reads:
    """A recorder that refuses to let an optimizer see these Values: they are old on arrays.

    `found` says whether it tried to, for it may catch the error.
    """

    def __init__(self, values: Iterable[Value]) -> None:
        self._values = frozenset(values)
        self._before: dict[Value, float] = {}  # the numbers of those that were read or written
        self.found = False

    def made(self, node: Value) -> None:
        self._look_for(*node.operands)

    def touched(self, value: Value) -> None:
        (number,) = numbers_of([value])
        self._before.setdefault(value, number)
        self._look_for(value)

    def compared(self, sign: Callable[[Any, Any], Any], x: Value, y: Any) -> bool:
        self._look_for(x, y)
        return bool(sign(*numbers_of([x, y if isinstance(y, Value) else Value(y)])))

    def detached(self, value: Value) -> Value:
        self._look_for(value)
        (data,) = numbers_of([value])
        return Value(data, value.label)

    def _look_for(self, *read: Any) -> None:
        if any(x in self._values for x in read if isinstance(x, Value)):
            self.found = True
            self.refuse()

    def bring_back(self) -> None:
        """Make numbers as they were that it wrote."""
        for value, number in self._before.items():
            if packed([value]) != packed([number]):
                value.data = number

    def refuse(self) -> None:
        """Raises TraceError if it tried to."""
        if self.found:
            raise TraceError(
                "the optimizer looks at a parameter, which has an old number and an old gradient "
                "while a step learns on arrays: its `gradient` and `moved` are given the new ones"
            )


def surroundings_of(optimizer: Optimizer) -> Surroundings:
    """What its rule and its schedule may move, with the global generators of random numbers."""
    return Surroundings(optimizer, random.random, np.random.random)


def _is_ours(optimizer: Optimizer) -> bool:
    """Whether its rule is, and no method was put into it; its schedule may be any."""
    own = [x for name, x in vars(optimizer).items() if name != "lr"]
    return type(optimizer) in _OURS and not any(map(callable, own))


def takes_arrays(optimizer: Optimizer) -> bool:
    """Whether its steps on arrays are those on floats: a rule that is not ours is tried.

    What that moves is brought back.
    """
    if not optimizer.steps_by_rule():
        return False
    if _is_ours(optimizer):
        return True
    found = []
    try:
        for of in (LISTS, ARRAYS):
            surroundings = surroundings_of(optimizer)
            try:
                reads = Reads(optimizer.params)
                with tracing(reads):
                    _two_steps(optimizer, of)  # in which it may make what it then changes
                    made = surroundings_of(optimizer)
                    found.append(_two_steps(optimizer, of))
                reads.refuse()
                surroundings.check()
                made.check()
            finally:
                surroundings.bring_back()
                reads.bring_back()
    except Exception:  # the user's, an array where a float is needed, or an iterator
        return False
    floats, arrays = found
    return np.allclose(floats, arrays, rtol=1e-12, atol=1e-300, equal_nan=True)


def _two_steps(optimizer: Optimizer, of: Library) -> Any:
    """The parameters and what is remembered after two steps with gradients that are made up."""
    column = list if of is LISTS else np.array
    p: Any = column(numbers_of(optimizer.params))
    memory: Memory = {"steps": 0}
    for k in (1.0, 2.0):
        g = column([math.cos(i + k) for i in range(len(p))])
        p, memory = optimizer.updated(of, p, g, memory)
    return [p, *[memory[name] for name in optimizer.remembers]]


class Step(Protocol):
    """What a step is for its training, which its plan knows by `learns`."""

    parameters: list[Value]
    plan: Any
    outputs: Any

    def value_and_grad(self, *batch: Any) -> tuple[float, Any]:
        """The mean loss, and its gradient as an array in the order of the parameters."""

    def sole(self, *batch: Any) -> Any:
        """The program that all of a batch have in common, and a row for each; or None."""


class _State(NamedTuple):
    """The parameters, the optimizer's memory with columns as arrays, and the latest gradient."""

    values: Any
    memory: Memory
    gradient: Any


class Descent:
    """A step that learns: called with a batch it gives the mean loss, and changes the parameters.

    Within the `with` block the parameters are arrays. `write` brings the Values, their `grad` and
    the optimizer up to date, for you to see or to change: the next step begins with what they then
    are. Whoever looks at a Value, changes or uses it, or saves the optimizer's state, calls it, but
    in another thread, or in a task that was begun before. At the end of the block all are up to
    date, also where an error or Ctrl-C ends it.

    Raises DivergenceError where a loss, or a parameter after a step, is not finite; all is then as
    it was at the last batch whose loss was finite. Raises InputError where a Value was changed
    while it waited, and TraceError where the optimizer's schedule reads one.
    """

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        if optimizer.params != step.parameters:
            raise InputError(
                "a training learns all parameters of its step, and the optimizer has other "
                "parameters: make it for step.parameters, or to learn a part of them, call the "
                "step and then the optimizer's own step()"
            )
        kind = type(optimizer).__name__
        if not optimizer.steps_by_rule():
            raise InputError(f"{kind} has a `step` of its own, which is for Values: write its rule")
        if not takes_arrays(optimizer):
            raise InputError(
                f"the rule of {kind} is another one for arrays: it is to compute by + - * / and "
                "its sqrt, without branches, functions of floats, random numbers, Values or a state"
            )
        self.optimizer = optimizer
        self.learned = frozenset(step.parameters)
        self._step = step
        self._is_ours = _is_ours(optimizer)
        self._known: Snapshot = optimizer.snapshot()  # what the Values and the optimizer have
        self.is_ahead = False  # whether the arrays have what these do not
        now = _arrays(self._known)
        self._states = now, now  # before the latest step, and after it
        self._count = 0

    def __enter__(self) -> Self:
        if self._step.plan.learns is not None:
            raise InputError("this step is in another training, which has its parameters")
        waiting(self).__enter__()  # not kept, which would close a cycle
        self._step.plan.learns = self
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self.close(checked=kind is None)

    def __call__(self, *batch: Any) -> float:
        """The mean loss over the batch, and a step that makes it smaller.

        Raises InputError outside of the block, where nobody would see what is learned.
        """
        learns: object = self._step.plan.learns
        if learns is not self:
            raise InputError(
                "a training learns within its block: with step.training(optimizer) as training: ..."
            )
        self._count += 1
        mean, problem = self.advance(*batch)
        if problem:
            self.undo()
            what = f"{problem} in step {self._count}; the parameters are back at their last good"
            raise DivergenceError(f"{what} state: try a smaller learning rate", 1, self._count)
        return mean

    def advance(self, *batch: Any) -> tuple[float, str]:
        """Make a step: the mean loss before it, and what is wrong with it, if anything is.

        It is then to be undone.
        """
        mean, gradient = self._step.value_and_grad(*batch)
        _, now = self._landed()
        if not math.isfinite(mean):
            return mean, f"the loss is {mean!r}"
        with np.errstate(all="ignore"):
            given = now.values, gradient, now.memory
            if not self._is_ours:  # a rule of `v *= 0.9` writes into its arrays
                given = deepcopy(given)
            values, memory = self._unseen(self.optimizer.updated, ARRAYS, *given)
        finite = bool(np.isfinite(values).all())
        self._states, self.is_ahead = (now, _State(values, memory, gradient)), True
        return mean, "" if finite else "the step led to a parameter that is not finite"

    def _unseen(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """What the optimizer computes. Raises TraceError where it reads what is learned."""
        if self._is_ours and not callable(self.optimizer.lr):
            return compute(*arguments)
        with tracing(reads := Reads(self.learned)):
            try:
                found = compute(*arguments)
            except Exception:  # of old numbers, perhaps: a gradient of 0 to divide by
                reads.refuse()
                raise
        reads.refuse()
        return found

    def undo(self) -> None:
        """Go back to the state before the latest step, whose loss was finite."""
        before, _ = self._landed()
        self._states, self.is_ahead = (before, before), True

    @property
    def values(self) -> Any:
        """The parameters, as an array."""
        self._take()
        return self._landed()[1].values

    def before(self) -> Snapshot:
        """The parameters and the memory before the latest step."""
        return _plain(self._landed()[0])

    def write(self, checked: bool = True) -> bool:
        """Bring the Values, their gradients and the optimizer up to date; whether they were not.

        Raises InputError, if it is `checked`, where one of them was changed while it waited.
        """
        if not self.is_ahead:
            return False
        with apart(waits, traces):
            if checked:
                self._check()
            state = self._landed()[1]
            known = _plain(state)
            if state.gradient is not None:
                slopes = state.gradient.tolist()
                for parameter, slope in zip(self.optimizer.params, slopes, strict=True):
                    set_slot_of_grad(parameter, slope)
            self.optimizer.restore(known)
        self._known, self.is_ahead = known, False
        return True

    def close(self, checked: bool = False) -> None:
        """Write, whatever happens, and leave the step alone."""
        try:
            self.write(checked)
        except BaseException:  # Ctrl-C, which is not to cost what was learned
            self.write(checked=False)
            raise
        finally:
            self._step.plan.learns = None
            waiting(self).__exit__()

    def _landed(self) -> tuple[_State, _State]:
        """The states before and after the latest step."""
        return self._states

    def _take(self) -> None:
        """Begin with what the Values and the optimizer have, if that is not known.

        Another training may have learned of the same parameters since.
        """
        land(self.learned, but=self)
        if not self.is_ahead and not self._is_known():
            self._known = self.optimizer.snapshot()
            self._states = self._landed()[0], _arrays(self._known)

    def _is_known(self) -> bool:
        numbers, memory = self.optimizer.snapshot()
        return memory is self._known[1] and numbers == self._known[0]

    def _check(self) -> None:
        if self._is_known():
            return
        what = "the optimizer's state"
        for parameter, x in zip(self.optimizer.params, self._known[0], strict=True):
            if parameter.data != x:
                what = f"{parameter!r:.60}"
                break
        raise InputError(f"{what} was changed while a step learned: call its `write` before that")


class _Placed(NamedTuple):
    """A state on devices: the parameters in the first row, and in the others what has `names`."""

    rows: Any
    names: tuple[str, ...]
    steps: int
    gradient: Any

    def landed(self) -> _State:
        values, *columns = np.asarray(self.rows, float)
        memory = {"steps": self.steps, **dict(zip(self.names, columns, strict=True))}
        return _State(values, memory, None if self.gradient is None else np.asarray(self.gradient))


class OnDevices(Descent):
    """The same with JAX: states stay on the devices, and a step is one program with its gradient.

    What no single program computes, or is not finite there, takes the way above, and so does a rule
    that JAX cannot trace, as it branches on a norm, or with an `updated` of its own.
    """

    def __init__(self, step: Step, optimizer: Optimizer) -> None:
        self._learnings: dict[Any, Any] = {}  # by the program, the settings, and what is remembered
        self._device: tuple[_Placed, _Placed] | None = None  # the states, if they are there
        methods = optimizer.updated, optimizer.remembered  # which a program does not call
        ours = [Optimizer.updated, Optimizer.remembered]
        self._is_traceable = [getattr(f, "__func__", None) for f in methods] == ours
        super().__init__(step, optimizer)

    def advance(self, *batch: Any) -> tuple[float, str]:
        if not self._is_traceable or (sole := self._step.sole(*batch)) is None:
            return super().advance(*batch)
        from .xla import named

        (way, rows), optimizer, names = sole, self.optimizer, tuple(self.optimizer.remembers)
        self._take()
        steps = self._device[1].steps if self._device else self._states[1].memory["steps"]
        factors = self._unseen(lambda: optimizer.factors(optimizer.rate(steps), steps))
        if (rule := self._rule(len(factors))) is None:
            return super().advance(*batch)
        key = way, rule, names
        if (learning := self._learnings.get(key)) is None:
            learning = self._learnings[key] = way.learning(optimizer.moved)
        if self._device is None or self._device[1].names != names:
            self._device = self._placed(learning, 0), self._placed(learning, 1)
        before, now = self._device
        self._device = now, now  # the other one gives its memory to the next state
        examples = named(rows, way.examples)
        try:
            found = learning(before.rows, now.rows, examples, factors)
        except TypeError:  # JAX's, for the use of a number that it does not know yet
            if self._is_ours:
                raise
            self._device, self._is_traceable = (before, now), False
            return super().advance(*batch)
        new, gradient, mean, finite, outputs = found
        if not finite:
            self._device = _Placed(new, *before[1:]), now
            return super().advance(*batch)
        self._device, self.is_ahead = (now, _Placed(new, names, now.steps + 1, gradient)), True
        self._step.outputs = outputs[0] if outputs else None
        return mean, ""

    def _rule(self, factors: int) -> Any:
        """What tells the rule: its settings, and of one that is not ours what it makes of numbers.

        A program keeps the attributes and variables that a rule reads. None for a rule that refuses
        such numbers.
        """
        optimizer = self.optimizer
        settings = repr({**optimizer.settings(), "lr": None})
        if self._is_ours:
            return settings
        made: list[Any] = []
        # As many as there are: a rule may know the parameters apart.
        p, g = (np.resize(some, len(optimizer.params)) for some in ([0.3, -1.2, 0.7], [-0.1, -1.6]))
        try:
            for size in (1e-6, 1e-3, 1.0, 1e3, 1e6):  # what shortens gradients does so to long ones
                columns = [size * size * p * p for _ in optimizer.remembers]
                with np.errstate(all="ignore"):
                    made += optimizer.moved(ARRAYS, (0.5,) * factors, size * p, size * g, columns)
        except Exception:  # the user's
            return None
        return settings, np.array(made).tobytes()

    def _placed(self, learning: Any, which: int) -> _Placed:
        state = self._landed()[which]
        memory = self.optimizer.remembered(ARRAYS, state.values, state.memory)
        steps, *columns = memory.values()
        rows = learning.placed([state.values, *columns])
        return _Placed(rows, tuple(self.optimizer.remembers), steps, state.gradient)

    def _landed(self) -> tuple[_State, _State]:
        if self._device is not None:
            before, now = self._device
            self._states, self._device = (before.landed(), now.landed()), None
        return self._states


def _arrays(snapshot: Snapshot) -> _State:
    numbers, memory = snapshot
    columns = {name: np.array(x) if isinstance(x, list) else x for name, x in memory.items()}
    return _State(np.array(numbers), columns, None)


def _plain(state: _State) -> Snapshot:
    return state.values.tolist(), {name: plain(x) for name, x in state.memory.items()}
