"""Optimizers with PyTorch's signatures and update rules: SGD, Adam and AdamW.

Each rule is written once, for the numbers of one parameter: + - * / and a square root, which are
the same for arrays of numbers. `Optimizer.step` goes through the parameters; where a compiled step
learns, the rule meets all of them at once, as arrays of NumPy or JAX, and gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

from .engine import Value, numbers_of
from .errors import InputError, OperandError, StateError, shown
from .modes import land
from .numerics import number, plain
from .state import assign

# What the rule remembers: how many `steps` were made, and columns of a number for each parameter.
Memory = dict[str, Any]
Snapshot = tuple[list[float], Memory]  # the parameters' numbers, and the memory
# From a parameter, its derivative and what is remembered of it, to the next parameter and memory.
Rule = Callable[..., tuple[Any, ...]]

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
__dir__ = shown(*__all__)


class Library(NamedTuple):
    """What rules need beside arithmetic, for columns of one kind: lists, or arrays of a library.

    `each` applies a function of one parameter's numbers to those of all, column by column, `norm`
    is a whole column's, and `least` the smaller one of two numbers.
    """

    each: Callable[..., Sequence[Any]]
    sqrt: Callable[[Any], Any]
    norm: Callable[[Any], Any]
    least: Callable[[Any, Any], Any]


def _each(f: Rule, *columns: list[float]) -> list[list[float]]:
    rows = list(map(f, *columns))  # zip(*rows) would leave tuples of their number in Python's store
    return [list(map(itemgetter(k), rows)) for k in range(len(rows[0]))]


LISTS = Library(_each, math.sqrt, lambda column: math.hypot(*column), min)


def _in_range(name: str, x: float, least: float = 0.0, end: float = math.inf) -> float:
    x = number(x)
    if not (math.isfinite(x) and least <= x < end):
        raise InputError(f"{name} is at least {least} and below {end}, got {x!r}")
    return x


class _Option:
    """An attribute that is checked whenever it is assigned, and a float then, not a float32."""

    def __init__(self, checked: Callable[[str, Any], Any] = _in_range) -> None:
        self._checked = checked

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, owner: Any, x: Any) -> None:
        vars(owner)[self._name] = self._checked(self._name, x)


def _pair(name: str, pair: Any) -> tuple[float, ...]:
    pair = plain(pair)
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise InputError(f"{name} is a pair of numbers, got {pair!r:.60}")
    return tuple([_in_range(f"{name}[{i}]", x, end=1.0) for i, x in enumerate(pair)])


class Optimizer:
    """What optimizers share: the parameters, `zero_grad`, and a `step` that changes all or none.

    As in PyTorch, gradients add up until they are set to 0. `lr` is a number, or a schedule: a
    function of how many steps were made before. Where the gradient is longer than `max_norm`, a
    step takes it shortened to that. Raises InputError (a ValueError) for an empty list of
    parameters, or an option out of range, now or when it is assigned.

    A rule of your own has a method `rule`, and where it needs them `factors`, `remembers`, and
    `settings`.
    """

    lr: Any = _Option(lambda name, x: x if callable(x) else _in_range(name, x))
    weight_decay: Any = _Option()
    max_norm: Any = _Option(lambda name, x: None if x is None else _in_range(name, x))

    def __init__(
        self,
        params: Iterable[Value],
        lr: float | Callable[[int], float],
        weight_decay: float,
        max_norm: float | None = None,
    ) -> None:
        if isinstance(params, Value) or not isinstance(params, Iterable):
            raise OperandError(f"an optimizer needs a list, model.parameters(), got {params!r:.60}")
        self.params = list(params)
        if not self.params:
            raise InputError("an optimizer needs at least one parameter")
        for p in self.params:
            if not isinstance(p, Value):
                raise OperandError(f"parameters are Values, got {p!r:.60}")
            if p.op is not None:
                raise InputError(
                    f"parameters are leaves, and {p!r:.60} was computed: its gradients would not "
                    "add up; make it one by .detach()"
                )
        if len(set(self.params)) != len(self.params):
            raise InputError("a parameter is listed twice, and would be updated twice")
        self.lr, self.weight_decay, self.max_norm = lr, weight_decay, max_norm
        self._memory: Memory = {"steps": 0}
        self._remembered = self.params[:]  # those whose columns the memory has

    # The rule.

    decays_gradient = True  # or the rule itself has the weight decay

    @property
    def remembers(self) -> Mapping[str, float]:
        """The names of the columns in its memory, which begin as zeros, and the least in each."""
        return {}

    def factors(self, lr: float, steps: int) -> tuple[float, ...]:
        """What the rule takes that changes from step to step, for the one after so many."""
        return (lr,)

    def rule(self, sqrt: Callable[[Any], Any], *factors: Any) -> Rule:
        """The function from p, its derivative g, and what is remembered, to the next of each."""
        raise NotImplementedError

    def rate(self, steps: int) -> float:
        """The learning rate after so many steps. Raises InputError if it is none."""
        if callable(self.lr):
            return _in_range(f"lr({steps})", self.lr(steps))
        return self.lr  # type: ignore[no-any-return]

    def gradient(self, of: Library, p: Any, g: Any) -> Any:
        """What the rule takes as gradient: shortened, and with weight decay's, weight_decay·p."""
        if self.max_norm is not None:
            # PyTorch's, to the digit. Of NaN and 1, `min` takes what comes first.
            share = of.least(self.max_norm / (of.norm(g) + 1e-6), 1.0)
            (g,) = of.each(lambda g: (share * g,), g)
        if self.decays_gradient and (decay := self.weight_decay):
            (g,) = of.each(lambda g, p: (g + decay * p,), g, p)
        return g

    def moved(self, of: Library, factors: Any, p: Any, g: Any, columns: Any) -> Sequence[Any]:
        """The columns after a step: p, and those that are remembered."""
        return of.each(self.rule(of.sqrt, *factors), p, self.gradient(of, p, g), *columns)

    def remembered(self, of: Library, p: Any, memory: Memory) -> Memory:
        """The memory with the columns that the rule needs now, and no others."""
        if not memory.keys() >= self.remembers.keys():
            (zeros,) = of.each(lambda p: (p - p,), p)
            memory = {**dict.fromkeys(self.remembers, zeros), **memory}
        if any(len(memory[name]) != len(p) for name in self.remembers):
            self._refuse_others()
        return {name: memory[name] for name in ("steps", *self.remembers)}

    def updated(self, of: Library, p: Any, g: Any, memory: Memory) -> tuple[Any, Memory]:
        """The parameters and the memory after a step."""
        steps, *columns = self.remembered(of, p, memory).values()
        p, *columns = self.moved(of, self.factors(self.rate(steps), steps), p, g, columns)
        return p, {"steps": steps + 1, **dict(zip(self.remembers, columns, strict=True))}

    # The parameters.

    def zero_grad(self) -> None:
        """Set every parameter's gradient to 0."""
        for p in self.params:
            p.grad = 0.0

    def step(self) -> None:
        """Change every parameter by one step of the rule, from its `grad`.

        Where that fails, or Ctrl-C comes between, no parameter is changed, nor what the rule
        remembers of earlier steps.
        """
        gradient = [p.grad for p in self.params]
        if self.params != self._remembered:
            if self.remembers and self._memory["steps"]:
                self._refuse_others()
            self._remembered = self.params[:]
        self.restore(self.updated(LISTS, numbers_of(self.params), gradient, self._memory))

    def _refuse_others(self) -> NoReturn:
        raise InputError(
            f"{type(self).__name__} has {len(self.params)} parameters, and remembers others of "
            "earlier steps: make a new one for them"
        )

    def steps_by_rule(self) -> bool:
        """Whether what changes Values is as above, so that steps can be made on arrays as well."""
        methods = self.step, self.zero_grad, self.snapshot, self.restore
        ours = [Optimizer.step, Optimizer.zero_grad, Optimizer.snapshot, Optimizer.restore]
        return [getattr(method, "__func__", None) for method in methods] == ours

    def snapshot(self) -> Snapshot:
        """What a step changes, for `restore`: it stays as it is, whatever steps follow."""
        return numbers_of(self.params), self._memory

    def restore(self, snapshot: Snapshot) -> None:
        """Bring parameters and memory to those of the snapshot, or where that fails, change none.

        Settings, such as `lr`, stay.
        """
        land(self.params)
        before, (numbers, memory) = self._memory, snapshot
        try:
            self._memory = memory
            assign(self.params, numbers)
        except BaseException:  # Ctrl-C, say
            self._memory = before
            raise

    # Its state.

    def state_dict(self) -> dict[str, Any]:
        """The rule's name, its settings, and what it remembers of earlier steps, ready for JSON.

        Of a schedule there are its name and, as `rate`, what it gave for the latest step.
        """
        memory = self.remembered(LISTS, *self.snapshot())
        state: dict[str, Any] = {"rule": type(self).__name__, "settings": self.settings()}
        state["memory"] = memory
        if callable(self.lr) and memory["steps"]:
            state["rate"] = self.rate(memory["steps"] - 1)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the optimizer did from which `state` is, the settings included.

        A schedule is to be this optimizer's already. Raises StateError (a ValueError), and changes
        nothing, if the state is of another rule or schedule, or of other parameters.
        """
        land(self.params)
        try:
            rule, memory = state["rule"], state["memory"]
            settings, own = {"max_norm": None, **state["settings"]}, self.settings()
            if rule != type(self).__name__ or settings.keys() != own.keys():
                raise InputError(f"it is of {rule!r:.60}, with {', '.join(settings)!s:.200}")
            if callable(self.lr) or isinstance(settings["lr"], str):
                if settings["lr"] != own["lr"]:
                    raise InputError(f"its lr is {settings['lr']!r:.60}, not {own['lr']!r:.60}")
                settings["lr"] = self.lr
            other = type(self)(self.params, **settings)
            other._memory = other._checked(memory)
            steps = memory["steps"]
            if callable(self.lr) and steps and (rate := other.rate(steps - 1)) != state["rate"]:
                raise InputError(f"its latest lr is {state['rate']!r:.60}, not {rate!r}")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StateError(f"this is no state of {type(self).__name__}: {error}") from None
        vars(self).update(vars(other))

    def settings(self) -> dict[str, Any]:
        """The options that the optimizer was made with, as they are now; of a schedule its name."""
        kind = getattr(self.lr, "__name__", type(self.lr).__name__)
        lr = f"the function {kind}" if callable(self.lr) else self.rate(0)
        return {"lr": lr, "weight_decay": self.weight_decay, "max_norm": self.max_norm}

    def _checked(self, memory: Any) -> Memory:
        """The memory, if it can be one. Raises LookupError, TypeError or InputError."""
        steps = memory["steps"]
        checked: Memory = {"steps": steps}
        if type(steps) is not int or not 0 <= steps < 2**53:
            raise InputError(f"{steps!r:.60} is no number of steps")
        for name, least in self.remembers.items():
            column = memory[name]
            if not isinstance(column, list) or len(column) != len(self.params):
                raise InputError(f"it is not for {len(self.params)} parameters")
            checked[name] = [_in_range("a number", x, least) for x in column]
        return checked


class SGD(Optimizer):
    """Gradient descent: v ← momentum·v + g, p ← p - lr·v, with v = g in the first step."""

    momentum: Any = _Option()

    def __init__(
        self,
        params: Iterable[Value],
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float = 0.0,
        *,  # PyTorch has others here
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, weight_decay, max_norm)
        self.momentum = momentum

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "momentum": self.momentum}

    @property
    def remembers(self) -> Mapping[str, float]:
        return {"velocity": -math.inf} if self.momentum else {}

    def rule(self, sqrt: Callable[[Any], Any], *factors: Any) -> Rule:
        (lr,) = factors
        momentum = self.momentum
        if not momentum:
            return lambda p, g: (p - lr * g,)

        def update(p: Any, g: Any, v: Any) -> tuple[Any, ...]:
            v = momentum * v + g
            return p - lr * v, v

        return update


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), with ε outside the root, as PyTorch has it.

    m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², p ← p - lr/(1-β₁ᵗ) · m / (√v / √(1-β₂ᵗ) + ε)
    """

    betas: Any = _Option(_pair)
    eps: Any = _Option()

    def __init__(
        self,
        params: Iterable[Value],
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, weight_decay, max_norm)
        self.betas, self.eps = betas, eps

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "betas": list(self.betas), "eps": self.eps}

    @property
    def remembers(self) -> Mapping[str, float]:
        return {"m": -math.inf, "v": 0.0}

    def factors(self, lr: float, steps: int) -> tuple[float, ...]:
        (b1, b2), t = self.betas, steps + 1
        return lr / (1.0 - b1**t), math.sqrt(1.0 - b2**t)

    def rule(self, sqrt: Callable[[Any], Any], *factors: Any) -> Rule:
        rate, root = factors
        (b1, b2), eps = self.betas, self.eps

        def update(p: Any, g: Any, m: Any, v: Any) -> tuple[Any, ...]:
            m = b1 * m + (1.0 - b1) * g
            v = b2 * v + (1.0 - b2) * g * g
            return p - rate * m / (sqrt(v) / root + eps), m, v

        return update


class AdamW(Adam):
    """Adam with weight decay beside the gradient (Loshchilov and Hutter 2019), as PyTorch has it.

    p ← (1 - lr·weight_decay)·p comes before Adam's step, whose moments know nothing of it.
    """

    def __init__(
        self,
        params: Iterable[Value],
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, max_norm=max_norm)

    decays_gradient = False

    def factors(self, lr: float, steps: int) -> tuple[float, ...]:
        return *super().factors(lr, steps), 1.0 - lr * self.weight_decay

    def rule(self, sqrt: Callable[[Any], Any], *factors: Any) -> Rule:
        *adams, kept = factors
        update = super().rule(sqrt, *adams)
        return lambda p, g, m, v: update(kept * p, g, m, v)
