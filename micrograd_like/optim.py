"""Optimizers with PyTorch's signatures and update rules: SGD and Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from .engine import Value
from .errors import InputError, OperandError, StateError
from .numerics import number

# The parameters' numbers, and what the rule remembers of earlier steps.
Snapshot = tuple[list[float], Any]


class Optimizer:
    """What optimizers share: the parameters, `zero_grad`, and a `step` that changes all or none.

    As in PyTorch, gradients add up until they are set to 0. Raises InputError (a ValueError) for an
    empty list of parameters or an option out of range.

    A rule of your own has a method `_updated`, which returns the snapshot after the next step. What
    it remembers is in `_memory`, in forms that JSON knows, and `_checked` checks what a file says
    of it; further settings are added in `settings`.
    """

    def __init__(self, params: Iterable[Value], lr: float, weight_decay: float) -> None:
        if isinstance(params, Value) or not isinstance(params, Iterable):
            raise OperandError(f"an optimizer needs a list, model.parameters(), got {params!r:.60}")
        self.params = list(params)
        if not self.params:
            raise InputError("an optimizer needs at least one parameter")
        for p in self.params:
            if not isinstance(p, Value):
                raise OperandError(f"parameters are Values, got {p!r:.60}")
        if len(set(self.params)) != len(self.params):
            raise InputError("a parameter is listed twice, and would be updated twice")
        self.lr = _in_range("lr", lr)
        self.weight_decay = _in_range("weight_decay", weight_decay)
        self._memory: Any = None

    def zero_grad(self) -> None:
        """Set every parameter's gradient to 0."""
        for p in self.params:
            p.grad = 0.0

    def step(self) -> None:
        """Change every parameter by one step of the rule, from its `grad`.

        Where that fails, or Ctrl-C comes between, no parameter is changed, nor what the rule
        remembers of earlier steps.
        """
        self.restore(self._updated())

    def snapshot(self) -> Snapshot:
        """What a step changes, for `restore`: it stays as it is, whatever steps follow."""
        return [p.data for p in self.params], self._memory

    def restore(self, snapshot: Snapshot) -> None:
        """Bring parameters and memory to those of the snapshot, or where that fails, change none.

        Settings, such as `lr`, stay.
        """
        before = self.snapshot()
        try:
            self._set(*snapshot)
        except BaseException:  # Ctrl-C, say
            self._set(*before)
            raise

    def _set(self, numbers: list[float], memory: Any) -> None:
        for p, x in zip(self.params, numbers, strict=True):
            p.data = x
        self._memory = memory

    def state_dict(self) -> dict[str, Any]:
        """The rule's name, its settings, and what it remembers of earlier steps, ready for JSON."""
        memory = copy(self._memory)
        return {"rule": type(self).__name__, "settings": self.settings(), "memory": memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the optimizer did from which `state` is, the settings included.

        Raises StateError (a ValueError), and changes nothing, if it is of another rule or of other
        parameters.
        """
        try:
            rule, settings, memory = state["rule"], dict(state["settings"]), state["memory"]
            if rule != type(self).__name__ or settings.keys() != self.settings().keys():
                raise InputError(f"it is of {rule!r:.60}, with {', '.join(settings)!s:.200}")
            other = type(self)(self.params, **settings)
            other._memory = other._checked(memory)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"this is no state of {type(self).__name__}: {error}") from None
        vars(self).update(vars(other))

    def settings(self) -> dict[str, Any]:
        """The options that the optimizer was made with, as they are now."""
        return {"lr": self.lr, "weight_decay": self.weight_decay}

    def _checked(self, memory: Any) -> Any:
        """The memory, if it can be one. Raises KeyError, TypeError or InputError."""
        return memory

    def _numbers(self, x: Any, least: float = -math.inf) -> list[float]:
        """`x`, if it is a list with a finite number for each parameter. Raises InputError."""
        if not isinstance(x, list) or len(x) != len(self.params):
            raise InputError(f"it is not for {len(self.params)} parameters")
        return [_in_range("a number", xi, least) for xi in x]

    def _updated(self) -> Snapshot:
        raise NotImplementedError

    def _gradients(self) -> list[float]:
        """The gradients, with weight decay (the derivative of weight_decay/2 · p²)."""
        decay = self.weight_decay
        if not decay:
            return [p.grad for p in self.params]
        return [p.grad + decay * p.data for p in self.params]


class SGD(Optimizer):
    """Gradient descent: v ← momentum·v + g, p ← p - lr·v, with v = g in the first step."""

    def __init__(
        self,
        params: Iterable[Value],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = _in_range("momentum", momentum)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "momentum": self.momentum}

    def _checked(self, memory: Any) -> Any:
        return None if memory is None else self._numbers(memory)

    def _updated(self) -> Snapshot:
        velocity = self._gradients()
        if self.momentum and self._memory is not None:
            before = self._memory
            velocity = [self.momentum * v + g for v, g in zip(before, velocity, strict=True)]
        numbers = [p.data - self.lr * v for p, v in zip(self.params, velocity, strict=True)]
        return numbers, velocity if self.momentum else None


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), with ε outside the root, as PyTorch has it.

    m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², p ← p - lr/(1-β₁ᵗ) · m / (√v / √(1-β₂ᵗ) + ε)
    """

    def __init__(
        self,
        params: Iterable[Value],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise InputError(f"betas is a pair of numbers, got {betas!r:.60}")
        self.betas = tuple(_in_range(f"betas[{i}]", x, end=1.0) for i, x in enumerate(betas))
        self.eps = _in_range("eps", eps)
        zeros = [0.0] * len(self.params)
        self._memory = {"steps": 0, "m": zeros, "v": zeros}

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "betas": list(self.betas), "eps": self.eps}

    def _checked(self, memory: Any) -> Any:
        steps = memory["steps"]
        if type(steps) is not int or not 0 <= steps < 2**53:
            raise InputError(f"{steps!r:.60} is no number of steps")
        m, v = self._numbers(memory["m"]), self._numbers(memory["v"], least=0.0)
        return {"steps": steps, "m": m, "v": v}

    def _updated(self) -> Snapshot:
        g = self._gradients()
        b1, b2 = self.betas
        before = self._memory
        m = [b1 * m + (1.0 - b1) * g for m, g in zip(before["m"], g, strict=True)]
        v = [b2 * v + (1.0 - b2) * g * g for v, g in zip(before["v"], g, strict=True)]
        t = before["steps"] + 1
        rate = self.lr / (1.0 - b1**t)
        root = math.sqrt(1.0 - b2**t)
        numbers = [
            p.data - rate * m / (math.sqrt(v) / root + self.eps)
            for p, m, v in zip(self.params, m, v, strict=True)
        ]
        return numbers, {"steps": t, "m": m, "v": v}


def _in_range(name: str, x: float, least: float = 0.0, end: float = math.inf) -> float:
    x = number(x)
    if not (math.isfinite(x) and least <= x < end):
        raise InputError(f"{name} is at least {least} and below {end}, got {x!r}")
    return x
