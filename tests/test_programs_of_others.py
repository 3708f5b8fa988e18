"""What programs written for micrograd, and in its manner, do with a Value: in words of our own.

The lectures' notebooks, micrograd's demo and its drawing of graphs, an Adam that keeps its moments
on the parameters, and a GPT of single numbers run with nothing changed but the import.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from micrograd_like.engine import Value
from micrograd_like.nn import MLP, Layer, Module, Neuron


def traced(root: Value) -> tuple[set[Value], set[tuple[Value, Value]]]:
    """The nodes and edges of a graph, found through `_prev` by recursion, as lectures do."""
    nodes: set[Value] = set()
    edges: set[tuple[Value, Value]] = set()

    def build(node: Value) -> None:
        if node not in nodes:
            nodes.add(node)
            for child in node._prev:
                edges.add((child, node))
                build(child)

    build(root)
    return nodes, edges


def test_a_program_of_its_own_draws_a_graph_through_prev_and_op() -> None:
    a, b, c = Value(2.0, label="a"), Value(-3.0, label="b"), Value(10.0, label="c")
    e = a * b
    e.label = "e"
    d = e + c
    f = (d**2 / 3).tanh() + d.relu() - a.exp()
    nodes, edges = traced(f)
    operations = sorted(node._op for node in nodes if node._op)
    assert operations == ["*", "**2", "+", "+", "-", "/", "ReLU", "exp", "tanh"]
    assert len(edges) == sum(len(node._prev) for node in nodes)
    lines = [f"{{ {n.label} | data {n.data:.4f} | grad {n.grad:.4f} }}" for n in nodes]
    assert "{ e | data -6.0000 | grad 0.0000 }" in lines
    assert all(str(id(n)).isdigit() for n in nodes)


def test_the_chain_rule_by_hand_with_backward_of_each_node_gives_the_gradients() -> None:
    def neuron() -> tuple[list[Value], Value]:
        x1, x2, w1, w2, b = leaves = [Value(x) for x in (2.0, 0.0, -3.0, 1.0, 6.8813735870195432)]
        return leaves, (x1 * w1 + x2 * w2 + b).tanh()

    leaves, out = neuron()
    order: list[Value] = []
    visited: set[Value] = set()

    def build(node: Value) -> None:
        if node not in visited:
            visited.add(node)
            for child in node._prev:
                build(child)
            order.append(node)

    build(out)
    out.grad = 1.0
    for node in reversed(order):
        node._backward()
    again, root = neuron()
    root.backward()
    assert [leaf.grad for leaf in leaves] == [leaf.grad for leaf in again]
    assert [round(leaf.grad, 4) for leaf in leaves] == [-1.5, 0.5, 1.0, 0.0, 0.5]


def moons(count: int) -> tuple[list[list[float]], list[int]]:
    rng = random.Random(3)
    X, y = [], []
    for i in range(count):
        angle, upper = math.pi * rng.random(), i % 2
        x = [math.cos(angle), math.sin(angle)]
        if not upper:
            x = [1 - x[0], 0.5 - x[1]]
        X.append([xi + rng.gauss(0, 0.05) for xi in x])
        y.append(2 * upper - 1)
    return X, y


def test_the_demo_learns_two_moons() -> None:
    random.seed(1337)
    model = MLP(2, [12, 12, 1])
    X, y = moons(40)

    def loss() -> tuple[Value, float]:
        inputs = [list(map(Value, row)) for row in X]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * score).relu() for yi, score in zip(y, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        total = data_loss + 1e-4 * sum(p * p for p in model.parameters())
        right = [(yi > 0) == (score.data > 0) for yi, score in zip(y, scores, strict=True)]
        return total, sum(right) / len(right)

    for k in range(100):
        total, accuracy = loss()
        model.zero_grad()
        total.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
    assert accuracy == 1.0
    assert "ReluNeuron" in repr(model)


class Parameter(Value):
    """A Value with an optimizer's memory, as some keep it."""

    def __init__(self, data: float, label: str = "") -> None:
        super().__init__(data, label)
        self.m = 0.0
        self.v = 0.0


def test_adam_keeps_its_moments_on_values_of_a_class_of_ones_own() -> None:
    w, b = Parameter(0.3, "w"), Parameter(-0.2)
    points = [(x / 5, 0.7 * x / 5 - 1.1) for x in range(-5, 6)]
    for t in range(1, 400):
        loss = sum((w * x + b - y) ** 2 for x, y in points) / len(points)
        assert loss.__class__ is Value
        w.grad = b.grad = 0.0
        loss.backward()
        for p in (w, b):
            p.m = 0.9 * p.m + 0.1 * p.grad
            p.v = 0.95 * p.v + 0.05 * p.grad**2
            step = p.m / (1 - 0.9**t) / (math.sqrt(p.v / (1 - 0.95**t)) + 1e-8)
            p.data -= 0.05 * step
    assert [w.data, b.data] == pytest.approx([0.7, -1.1], abs=1e-2)


def test_modules_of_ones_own_are_made_of_neurons_and_layers() -> None:
    class Twice(Module):
        def __init__(self) -> None:
            self.layer = Layer(2, 3, nonlin=True)
            self.out = Neuron(3, nonlin=False)

        def __call__(self, x: Any) -> Value:
            return self.out(self.layer(x))

    model = Twice()
    model([1.0, Value(2.0)]).backward()
    assert len(model.parameters()) == 3 * 3 + 4
    model.zero_grad()
    assert all(p.grad == 0.0 for p in model.parameters())


# --- a GPT of single numbers ----------------------------------------------------------------------

LETTERS = "abn"
END = len(LETTERS)  # begins and ends a word
WIDTH, HEADS, LONGEST = 4, 2, 8


def matrix(rng: random.Random, rows: int, columns: int) -> list[list[Value]]:
    return [[Value(rng.gauss(0, 0.3)) for _ in range(columns)] for _ in range(rows)]


def linear(x: list[Any], rows: list[list[Any]]) -> list[Any]:
    return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in rows]


def softmax(logits: list[Any]) -> list[Any]:
    largest = max(value.data for value in logits)
    shares = [(value - largest).exp() for value in logits]
    total = sum(shares)
    return [share / total for share in shares]


def normed(x: list[Any]) -> list[Any]:
    scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def word_loss(state: dict[str, list[list[Value]]], word: str) -> Value:
    tokens = [END, *map(LETTERS.index, word), END]
    keys: list[list[Any]] = []
    values: list[list[Any]] = []
    losses = []
    for place in range(len(tokens) - 1):
        pairs = zip(state["token"][tokens[place]], state["place"][place], strict=True)
        x = normed([a + b for a, b in pairs])
        residual, x = x, normed(x)
        query = linear(x, state["query"])
        keys.append(linear(x, state["key"]))
        values.append(linear(x, state["value"]))
        mixed = []
        size = WIDTH // HEADS
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = [
                sum(q * k for q, k in zip(query[part], key[part], strict=True)) / size**0.5
                for key in keys
            ]
            attention = softmax(scores)
            rows = [value[part] for value in values]
            mixed += [
                sum(a * row[j] for a, row in zip(attention, rows, strict=True)) for j in range(size)
            ]
        x = [a + b for a, b in zip(linear(mixed, state["mix"]), residual, strict=True)]
        residual, x = x, [xi.relu() for xi in linear(normed(x), state["up"])]
        x = [a + b for a, b in zip(linear(x, state["down"]), residual, strict=True)]
        chances = softmax(linear(x, state["out"]))
        losses.append(-chances[tokens[place + 1]].log())
    return (1 / len(losses)) * sum(losses)


def test_a_gpt_of_single_numbers_trains_and_has_the_slopes_of_its_loss() -> None:
    rng = random.Random(42)
    state = {name: matrix(rng, WIDTH, WIDTH) for name in ("query", "key", "value", "mix")}
    state |= {"token": matrix(rng, END + 1, WIDTH), "place": matrix(rng, LONGEST, WIDTH)}
    state |= {"up": matrix(rng, 2 * WIDTH, WIDTH), "down": matrix(rng, WIDTH, 2 * WIDTH)}
    state["out"] = matrix(rng, END + 1, WIDTH)
    parameters = [p for rows in state.values() for row in rows for p in row]

    loss = word_loss(state, "banana")
    loss.backward()
    for p in (state["query"][0][1], state["value"][3][2], state["token"][1][0]):
        before = p.data
        sides = []
        for step in (1e-5, -1e-5):
            p.data = before + step
            sides.append(word_loss(state, "banana").data)
        p.data = before
        assert p.grad == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)

    first = loss.data
    moments = [[0.0, 0.0] for _ in parameters]
    for t in range(1, 31):
        for p in parameters:
            p.grad = 0.0
        loss = word_loss(state, ("banana", "nabab")[t % 2])
        loss.backward()
        for p, moment in zip(parameters, moments, strict=True):
            moment[0] = 0.85 * moment[0] + 0.15 * p.grad
            moment[1] = 0.99 * moment[1] + 0.01 * p.grad**2
            p.data -= 0.05 * moment[0] / (1 - 0.85**t) / ((moment[1] / (1 - 0.99**t)) ** 0.5 + 1e-8)
    assert loss.data < 0.5 * first
