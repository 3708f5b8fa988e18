"""The side of a benchmark that works: an engine in a process, which does what it is told, timed.

`peers.Worker` starts it as `python workloads.py ENGINE STACK`. Orders, [workload, size, collector],
come as lines of JSON on stdin; an answer is the workload's figures, in seconds or bytes, and its
check, numbers in which all engines must agree. The figure `garbage` is how long the collector then
took for what the workload left behind: without it, micrograd would keep every graph it ever made.
Each workload is written once, in the operators that the engines share; what they do not share is in
the classes below.
"""

from __future__ import annotations

import copy
import gc
import importlib
import json
import math
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random
from time import perf_counter
from typing import Any

Result = tuple[dict[str, float], list[float]]

RATE, ALPHA = 0.1, 1e-4


def two_moons(n: int) -> tuple[list[list[float]], list[float]]:
    """`n` points on two interleaved half circles, with noise, and their labels -1 and +1."""
    rng = Random(1337)
    points, labels = [], []
    for i in range(n):
        angle = math.pi * (i // 2) / (n // 2 - 1)
        x, y = math.cos(angle), math.sin(angle)
        if i % 2:
            x, y = 1.0 - x, 0.5 - y
        points.append([x + rng.gauss(0.0, 0.1), y + rng.gauss(0.0, 0.1)])
        labels.append(1.0 if i % 2 else -1.0)
    return points, labels


def initial_weights() -> list[float]:
    """The parameters that every engine's MLP(2, [16, 16, 1]) starts from."""
    rng = Random(42)
    return [rng.uniform(-0.5, 0.5) for _ in range(337)]


# --- the engines ----------------------------------------------------------------------------------


class Engine:
    """An engine with micrograd's manners: a `Value` with data, grad, relu and backward.

    `lacks` names the workloads that it cannot do.
    """

    module: str
    lacks: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.value = importlib.import_module(self.module).Value
        self.backward: Callable[[Any], object] = self.value.backward
        self.relu: Any = getattr(self.value, "relu", None)  # one of them has none

    def leaves(self, numbers: Iterable[float]) -> list[Any]:
        return [self.value(x) for x in numbers]

    def constant(self, x: float) -> Any:
        """What a plain number has to become before it may stand in an expression."""
        return x

    def power(self, x: Any, k: int) -> Any:
        return x**k

    def gradient(self, leaf: Any) -> float:
        return float(leaf.grad)

    def number(self, leaf: Any) -> float:
        return float(leaf.data)

    def training_step(self) -> Callable[[], float]:
        """The demo's training step, to be called again and again; it returns the loss."""
        raise NotImplementedError

    def own_training_step(self) -> Callable[[], float]:
        """The same by a program that has neurons of its own, of single operations."""
        relu, constant = self.relu, self.constant
        points, labels = two_moons(100)
        numbers = initial_weights()

        def respond(layers: list[list[list[Any]]], inputs: list[Any]) -> Any:
            for layer in layers:
                outputs = []
                for *ws, b in layer:
                    z = b
                    for w, x in zip(ws, inputs, strict=True):
                        z = z + w * x
                    outputs.append(z if len(layer) == 1 else relu(z))
                inputs = outputs
            return inputs[0]

        def step() -> float:
            parameters = self.leaves(numbers)
            rest = iter(parameters)
            layers = [
                [[next(rest) for _ in range(nin + 1)] for _ in range(nout)]
                for nin, nout in ((2, 16), (16, 16), (16, 1))
            ]
            losses = [
                relu(constant(1.0) - constant(label) * respond(layers, list(map(constant, point))))
                for point, label in zip(points, labels, strict=True)
            ]
            squares = sum((p * p for p in parameters), constant(0.0))
            total = sum(losses, constant(0.0)) * constant(1.0 / len(losses))
            total = total + constant(ALPHA) * squares
            self.backward(total)
            numbers[:] = [self.number(p) - RATE * self.gradient(p) for p in parameters]
            return self.number(total)

        return step


class Micrograd(Engine):
    """The base, as its demo notebook uses it."""

    package = "micrograd"
    module = "micrograd.engine"
    lacks = frozenset({"gpt"})

    def training_step(self) -> Callable[[], float]:
        value, constant = self.value, self.constant
        points, labels = two_moons(100)
        model = importlib.import_module(f"{self.package}.nn").MLP(2, [16, 16, 1])
        for p, x in zip(model.parameters(), initial_weights(), strict=True):
            p.data = x

        def step() -> float:
            inputs = [list(map(value, point)) for point in points]
            scores = list(map(model, inputs))
            losses = [
                (constant(1.0) + constant(-label) * score).relu()
                for label, score in zip(labels, scores, strict=True)
            ]
            data_loss = sum(losses, constant(0.0)) * constant(1.0 / len(losses))
            squares = sum((p * p for p in model.parameters()), constant(0.0))
            total = data_loss + constant(ALPHA) * squares
            model.zero_grad()
            total.backward()
            for p in model.parameters():
                p.data -= RATE * p.grad
            return float(total.data)

        return step


class Minigrad(Micrograd):
    """micrograd's engine as a C extension, which trusts that its operands are Values.

    A number must be wrapped before it meets one; its powers are not safe at all, and are written as
    products.
    """

    package = "minigrad"
    module = "minigrad"
    lacks = frozenset({"gpt", "node_sizes", "long_chain"})

    def constant(self, x: float) -> Any:
        return self.value(x)

    def power(self, x: Any, k: int) -> Any:
        out = x
        for _ in range(k - 1):
            out = out * x
        return out


class Oxigrad(Engine):
    """A Rust engine without networks."""

    module = "oxigrad"
    lacks = frozenset(
        {"training", "own_training", "expression", "rosenbrock", "gpt", "node_sizes", "long_chain"}
    )


class MicrogradRust(Engine):
    """A Rust engine without relu, whose Values take no numbers on their right."""

    module = "micrograd_rust"
    lacks = frozenset(
        {"training", "own_training", "expression", "rosenbrock", "gpt", "node_sizes", "long_chain"}
    )

    def constant(self, x: float) -> Any:
        return self.value(x)


class Xad(Engine):
    """A C++ library for finance. It records operations on a tape, so that nodes are no objects."""

    lacks = frozenset({"gpt", "node_sizes", "sweep_peak", "long_chain"})

    def __init__(self) -> None:
        self.adjoint_mode = importlib.import_module("xad.adj_1st")
        self.maximum = importlib.import_module("xad.math").max
        self.relu = lambda x: self.maximum(x, 0.0)
        self.backward = self._backward
        self.tape: Any = None

    def leaves(self, numbers: Iterable[float]) -> list[Any]:
        """New leaves, on a new tape.

        No number of the last tape may be alive: its end would free another's place on this one,
        which gives wrong gradients.
        """
        if self.tape is not None:
            self.tape.deactivate()
        self.tape = self.adjoint_mode.Tape()
        self.tape.activate()
        leaves = [self.adjoint_mode.Real(x) for x in numbers]
        self.tape.registerInputs(leaves)
        self.tape.newRecording()
        return leaves

    def gradient(self, leaf: Any) -> float:
        return float(leaf.derivative)

    def _backward(self, root: Any) -> None:
        self.tape.registerOutput(root)
        root.derivative = 1.0
        self.tape.computeAdjoints()

    def number(self, leaf: Any) -> float:
        return float(leaf.value)

    def training_step(self) -> Callable[[], float]:
        return self.own_training_step()  # it has no networks


class MicrogradLike(Engine):
    """Ours, as a user would write it."""

    module = "micrograd_like"

    def training_step(self) -> Callable[[], float]:
        library = importlib.import_module("micrograd_like")
        losses = library.losses
        points, labels = two_moons(100)
        model = library.nn.MLP(2, [16, 16, 1], activation="relu")
        for p, x in zip(model.parameters(), initial_weights(), strict=True):
            p.data = x
        optimizer = library.optim.SGD(model.parameters(), lr=RATE)

        def step() -> float:
            scores = [model(point) for point in points]
            total = losses.hinge(scores, labels) + ALPHA * sum(p * p for p in model.parameters())
            model.zero_grad()
            total.backward()
            optimizer.step()
            return float(total.data)

        return step


class OwnValue(Engine):
    """The class of a GPT in one file, which has what that needs."""

    module = "own_gpt"
    lacks = frozenset(
        {"training", "own_training", "chain", "expression", "rosenbrock", "sum_of_products",
         "sum_of_multiples", "node_sizes", "sweep_peak", "long_chain", "collector_passes"}
    )  # fmt: skip


ENGINES: dict[str, type[Engine]] = {
    "micrograd_like": MicrogradLike,
    "in Python": MicrogradLike,  # for which peers.Worker sets the environment
    "own Value": OwnValue,
    "micrograd": Micrograd,
    "minigrad": Minigrad,
    "xad": Xad,
    "oxigrad": Oxigrad,
    "micrograd-rust": MicrogradRust,
}


# --- what all engines do --------------------------------------------------------------------------


class Training:
    """Training steps one after the other, of one model; the check is the loss before each."""

    def __init__(self, begun: Callable[[Engine], Callable[[], float]]) -> None:
        self._begun = begun
        self._step: Callable[[], float] | None = None

    def __call__(self, engine: Engine, size: int) -> Result:
        self._step = step = self._step or self._begun(engine)
        start = perf_counter()
        losses = [step() for _ in range(size)]
        return {"seconds": perf_counter() - start}, losses


def chain(engine: Engine, size: int) -> Result:
    """Build, differentiate and free v = v·scale, v = v + shift, ... of `size` operations."""
    leaves = engine.leaves([1.0, 0.99999, 0.001])

    def run(v: Any, scale: Any, shift: Any) -> None:
        for _ in range(size // 2):
            v = v * scale
            v = v + shift
        engine.backward(v)

    start = perf_counter()
    run(*leaves)
    gc.collect()  # which is what it takes to free a graph with reference cycles
    seconds = perf_counter() - start
    return {"seconds": seconds}, [engine.gradient(leaf) for leaf in leaves]


def sum_of_products(engine: Engine, size: int) -> Result:
    """Build, differentiate and free x·x1 + x·x2 + ..., `size` products of Values."""
    rng = Random(7)
    x, *xs = engine.leaves([0.5, *(rng.uniform(-1.0, 1.0) for _ in range(size))])
    return _sum(engine, x, xs), [engine.gradient(leaf) for leaf in (x, xs[0], xs[-1])]


def sum_of_multiples(engine: Engine, size: int) -> Result:
    """The same with numbers for x1, x2, ..., which minigrad gets wrapped off the clock."""
    rng = Random(7)
    xs = [engine.constant(rng.uniform(-1.0, 1.0)) for _ in range(size)]
    (x,) = engine.leaves([0.5])
    return _sum(engine, x, xs), [engine.gradient(x)]


def _sum(engine: Engine, x: Any, xs: list[Any]) -> dict[str, float]:
    def run() -> None:
        total = engine.constant(0.0)
        for i in range(len(xs)):
            total = total + x * xs[i]
        engine.backward(total)

    start = perf_counter()
    run()
    gc.collect()
    return {"seconds": perf_counter() - start}


def expression(engine: Engine, size: int) -> Result:
    """The expression of micrograd's README, `size` times."""
    leaves, relu, backward, gradient = engine.leaves, engine.relu, engine.backward, engine.gradient
    power, one, two = engine.power, engine.constant(1.0), engine.constant(2.0)
    three, ten = engine.constant(3.0), engine.constant(10.0)

    def evaluate() -> list[float]:
        a, b = leaves((-4.0, 2.0))
        c = a + b
        d = a * b + power(b, 3)
        c += c + one
        c += one + c + (-a)
        d += d * two + relu(b + a)
        d += three * d + relu(b - a)
        e = c - d
        f = power(e, 2)
        g = f / two
        g += ten / f
        backward(g)
        return [gradient(a), gradient(b)]

    start = perf_counter()
    for _ in range(size):
        gradients = evaluate()
    return {"seconds": perf_counter() - start}, gradients


def rosenbrock(engine: Engine, size: int) -> Result:
    """Rosenbrock's function of 100 variables, Σ 100 (y - x²)² + (1 - x)², `size` times."""
    leaves, backward, gradient = engine.leaves, engine.backward, engine.gradient
    zero, one, hundred = map(engine.constant, (0.0, 1.0, 100.0))
    numbers = [math.sin(i) for i in range(100)]

    def evaluate() -> list[float]:
        xs = leaves(numbers)
        total = zero
        for x, y in pairwise(xs):
            u, v = y - x * x, one - x
            total = total + (hundred * (u * u) + v * v)
        backward(total)
        return [gradient(x) for x in xs]

    start = perf_counter()
    for _ in range(size):
        gradients = evaluate()
    return {"seconds": perf_counter() - start}, gradients


def collector_passes(engine: Engine, size: int) -> Result:
    """How long a full pass of the cyclic collector takes, before and while `size` nodes live."""

    def full_pass() -> float:
        gc.collect()
        start = perf_counter()
        gc.collect()
        return perf_counter() - start

    (v,) = engine.leaves([1.0])
    before = min(full_pass() for _ in range(3))
    for _ in range(size):
        v = v + engine.constant(1.0)
    return {"no nodes": before, "nodes": min(full_pass() for _ in range(3))}, []


def node_sizes(engine: Engine, size: int) -> Result:
    """Bytes a node at rest, by operation: what stays allocated once the operands are there."""
    numbers = [1.0 + i / size for i in range(size)]
    xs, ys = engine.leaves(numbers), engine.leaves(numbers)
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "x * y": lambda x, y: x * y,
        "x + y": lambda x, y: x + y,
        "x * 3.0": lambda x, y: x * 3.0,
        "x / y": lambda x, y: x / y,
    }
    if hasattr(engine.value, "tanh"):  # micrograd has none
        operations["x.tanh()"] = lambda x, y: x.tanh()
    return {name: _allocated(f, xs, ys) for name, f in operations.items()}, []


def _allocated(f: Callable[[Any, Any], Any], xs: list[Any], ys: list[Any]) -> float:
    nodes: list[Any] = [None] * len(xs)  # so that the list's own memory is not counted
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        nodes[i] = f(x, y)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(nodes)


def sweep_peak(engine: Engine, size: int) -> Result:
    """Bytes a node of a chain, before a backward pass and at the peak within it."""
    v, scale, shift = engine.leaves([1.0, 0.99999, 0.001])
    tracemalloc.start()
    for _ in range(size // 2):
        v = v * scale
        v = v + shift
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    engine.backward(v)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"chain, at rest": before / size, "added at backward's peak": (peak - before) / size}, []


def long_chain(engine: Engine, size: int) -> Result:
    """A chain of `size` operations: how long each thing that one can do with it takes."""
    times: dict[str, float] = {}
    start = perf_counter()
    root, scale, shift = engine.leaves([1.0, 0.99999, 0.001])
    for _ in range(size // 2):
        root = root * scale
        root = root + shift
    times["build"] = perf_counter() - start
    start = perf_counter()
    engine.backward(root)
    times["backward"] = perf_counter() - start
    times["build + backward"] = times["build"] + times["backward"]
    data = root.data

    start = perf_counter()
    twin = copy.deepcopy(root)
    times["deepcopy"] = perf_counter() - start
    assert twin.data == data
    del twin

    start = perf_counter()
    pickled = pickle.dumps(root)
    times["pickle.dumps"] = perf_counter() - start
    start = perf_counter()
    twin = pickle.loads(pickled)
    times["pickle.loads"] = perf_counter() - start
    assert twin.data == data
    del twin, pickled

    start = perf_counter()
    del root
    times["free"] = perf_counter() - start
    return times, [engine.gradient(scale), engine.gradient(shift)]


def gpt_step(engine: Engine) -> Callable[[], float]:
    step: Callable[[], float] = importlib.import_module("own_gpt").training_step(engine.value)
    return step


WORKLOADS: dict[str, Callable[[Engine, int], Result]] = {
    "gpt": Training(gpt_step),
    "training": Training(lambda engine: engine.training_step()),
    "own_training": Training(lambda engine: engine.own_training_step()),
    "chain": chain,
    "expression": expression,
    "rosenbrock": rosenbrock,
    "collector_passes": collector_passes,
    "sum_of_products": sum_of_products,
    "sum_of_multiples": sum_of_multiples,
    "node_sizes": node_sizes,
    "sweep_peak": sweep_peak,
    "long_chain": long_chain,
}


def serve(name: str) -> None:
    """Answer orders until stdin ends."""
    sys.setrecursionlimit(10**7)  # micrograd sorts its graph by recursion
    engine: Engine | None = None
    for line in sys.stdin:
        workload, size, collector = json.loads(line)
        gc.collect()  # what a failure may have left behind is not this round's
        (gc.enable if collector else gc.disable)()
        answer: dict[str, Any]
        try:
            engine = engine or ENGINES[name]()
            answer = work(engine, workload, size)
        except Exception as error:  # whatever a peer may raise is its result
            answer = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def work(engine: Engine, workload: str, size: int) -> dict[str, Any]:
    """The answer to one order."""
    if workload in engine.lacks:
        return {"failure": "lacks what this needs"}
    figures, check = WORKLOADS[workload](engine, size)
    start = perf_counter()
    gc.collect()
    figures["garbage"] = perf_counter() - start
    return {"figures": figures, "check": check}


if __name__ == "__main__":
    threading.stack_size(int(sys.argv[2]))
    thread = threading.Thread(target=serve, args=(sys.argv[1],))
    thread.start()
    thread.join()
