"""A GPT whose every number is a Value, and a Value class of its own: what people write in one file.

The model has rmsnorm, causal attention over a growing list of keys, ReLU, residuals and
cross-entropy; the class has what the model needs, and sorts its graph by recursion. The benchmark
replaces the class by others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

WIDTH, HEADS, LAYERS, LETTERS = 16, 4, 1, 27
WORDS = ["emma", "olivia", "ava", "isabella", "sophia", "charlotte"]
RATE = 0.05


class Value:
    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data: float, children: tuple[Any, ...] = (), local_grads: Any = ()) -> None:
        self.data = data
        self.grad = 0.0
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, k: float) -> Value:
        return Value(self.data**k, (self,), (k * self.data ** (k - 1),))

    def log(self) -> Value:
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def exp(self) -> Value:
        e = math.exp(self.data)
        return Value(e, (self,), (e,))

    def relu(self) -> Value:
        return Value(max(0.0, self.data), (self,), (float(self.data > 0.0),))

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Any) -> Value:
        return self + (-other)

    def __truediv__(self, other: Any) -> Value:
        return self * other**-1

    __radd__, __rmul__ = __add__, __mul__

    def backward(self) -> None:
        order: list[Value] = []
        seen = set()

        def visit(v: Value) -> None:
            if v not in seen:
                seen.add(v)
                for child in v.children:
                    visit(child)
                order.append(v)

        visit(self)
        self.grad = 1.0
        for v in reversed(order):
            for child, local in zip(v.children, v.local_grads, strict=True):
                child.grad += local * v.grad


def training_step(value: Any) -> Callable[[], float]:
    """One step of descent on one word, to be called again and again; it returns the loss."""
    rng = Random(42)

    def matrix(rows: int, columns: int) -> list[list[Any]]:
        return [[value(rng.gauss(0.0, 0.08)) for _ in range(columns)] for _ in range(rows)]

    embedding, place, head = matrix(LETTERS, WIDTH), matrix(16, WIDTH), matrix(LETTERS, WIDTH)
    layers = [
        {
            **{name: matrix(WIDTH, WIDTH) for name in ("q", "k", "v", "o")},
            "up": matrix(4 * WIDTH, WIDTH),
            "down": matrix(WIDTH, 4 * WIDTH),
        }
        for _ in range(LAYERS)
    ]
    parameters = [
        p
        for weights in (embedding, place, head, *(w for layer in layers for w in layer.values()))
        for row in weights
        for p in row
    ]
    count = 0

    def linear(x: list[Any], w: list[list[Any]]) -> list[Any]:
        return [sum(wi * xi for wi, xi in zip(row, x, strict=True)) for row in w]

    def softmax(logits: list[Any]) -> list[Any]:
        largest = max(v.data for v in logits)
        exponentials = [(v - largest).exp() for v in logits]
        total = sum(exponentials)
        return [e / total for e in exponentials]

    def rmsnorm(x: list[Any]) -> list[Any]:
        scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    def attend(x: list[Any], layer: dict[str, Any], keys: list[Any], values: list[Any]) -> Any:
        q, k, v = (linear(x, layer[name]) for name in ("q", "k", "v"))
        keys.append(k)
        values.append(v)
        size, out = WIDTH // HEADS, list[Any]()
        for h in range(0, WIDTH, size):
            scores = [sum(q[h + j] * k[h + j] for j in range(size)) / size**0.5 for k in keys]
            weights = softmax(scores)
            out += [
                sum(w * v[h + j] for w, v in zip(weights, values, strict=True)) for j in range(size)
            ]
        return linear(out, layer["o"])

    def logits(letter: int, position: int, memory: list[tuple[list[Any], list[Any]]]) -> list[Any]:
        x = rmsnorm([a + b for a, b in zip(embedding[letter], place[position], strict=True)])
        for layer, (keys, values) in zip(layers, memory, strict=True):
            x = [a + b for a, b in zip(attend(rmsnorm(x), layer, keys, values), x, strict=True)]
            hidden = [h.relu() for h in linear(rmsnorm(x), layer["up"])]
            x = [a + b for a, b in zip(linear(hidden, layer["down"]), x, strict=True)]
        return linear(x, head)

    def step() -> float:
        nonlocal count
        word = [0, *(ord(c) - 96 for c in WORDS[count % len(WORDS)]), 0]
        count += 1
        memory: list[tuple[list[Any], list[Any]]] = [([], []) for _ in layers]
        losses = [
            -softmax(logits(letter, i, memory))[following].log()
            for i, (letter, following) in enumerate(pairwise(word))
        ]
        loss = sum(losses) * (1.0 / len(losses))
        loss.backward()
        for p in parameters:
            p.data -= RATE * p.grad
            p.grad = 0.0
        return float(loss.data)

    return step
