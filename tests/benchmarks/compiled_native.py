"""Programs compiled by Numba beside loop nests written by hand (`baselines.py`).

    python tests/benchmarks/compiled_native.py

Times what is called: `program(values)`, an array in and arrays out, against functions that write
into arrays they are given. Rounds alternate between ours and the hand-written ones, with the
threads of BLAS held at one. A figure is the median over the rounds of the median of a round. Prints
microseconds, how many times the hand-written loop that is, and what is asked of it.
"""

from __future__ import annotations

import os

for threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[threads] = "1"  # before NumPy is imported

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import baselines
import numba
import numpy as np

from micrograd_like import Value, compile, nn

ROUNDS = 15


def demo() -> tuple[Value, list[Value], Any]:
    """The loss of the demo network, and its parameters in the order of the baseline."""
    theta, XT, y = baselines.demo_data()
    model = nn.MLP(2, [16, 16, 1], activation="relu")
    terms = [(1.0 - t * model(x)).relu() for x, t in zip(XT.T.tolist(), y.tolist(), strict=True)]
    loss = sum(terms) * 0.01 + 1e-4 * sum(p * p for p in model.parameters())
    weights = [w for layer in model.layers for neuron in layer.neurons for w in neuron.w]
    biases = [neuron.b for layer in model.layers for neuron in layer.neurons]
    return loss, weights + biases, theta


def rosenbrock(n: int) -> tuple[Value, list[Value]]:
    xs = [Value(0.0, f"x[{i}]") for i in range(n)]
    terms = [100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(xs)]
    return sum(terms), xs


def compare(works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The median time of each, in microseconds, from rounds in which they alternate."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(baselines.median_us(work, runs=runs))
    return {name: median(found) for name, found in times.items()}


def show(title: str, figures: dict[str, float], limit: float, asked: str) -> None:
    ours, by_hand = figures["ours"], figures["by hand"]
    rest = "".join(
        f"   {name} {figures[name]:.3g}" for name in figures if name not in ("ours", "by hand")
    )
    verdict = "ok" if ours <= limit else "MISSED"
    print(
        f"{title:34}{ours:9.3f} us{by_hand:9.3f} by hand{ours / by_hand:8.2f} x   "
        f"<= {asked}: {verdict}{rest}"
    )


def main() -> None:
    jit = numba.njit(fastmath=True)

    root, inputs, theta = demo()
    _, XT, y = baselines.demo_data()
    start = perf_counter()
    program = compile(root, inputs, inputs, backend="numba")
    print(f"the demo network is lifted and compiled, or found, in {perf_counter() - start:.1f} s")
    arrays = compile(root, inputs, inputs)
    loops = jit(baselines.demo_loops)
    A1, A2, g = np.empty((16, 100)), np.empty((16, 100)), np.empty(337)
    loss, gradient = program(theta)
    assert np.isclose(loops(theta, XT, y, A1, A2, g), loss, rtol=1e-12, atol=0.0)
    assert np.allclose(g, gradient, rtol=1e-12, atol=1e-15)
    figures = compare(
        {
            "ours": lambda: program(theta),
            "by hand": lambda: loops(theta, XT, y, A1, A2, g),
            "numpy": lambda: arrays(theta),
        },
        500,
    )
    show("demo step, 100 points", figures, 1.25 * figures["by hand"], "1.25 x")

    x = np.random.default_rng(1).standard_normal(100)
    root, inputs = rosenbrock(100)
    program = compile(root, inputs, inputs, backend="numba")
    rosenbrock_loops, gx = jit(baselines.rosenbrock_loops), np.empty(100)
    value, gradient = program(x)
    assert np.isclose(rosenbrock_loops(x, gx), value, rtol=1e-12)
    assert np.allclose(gx, gradient, rtol=1e-12)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: program(x),
        "by hand": lambda: rosenbrock_loops(x, gx),
    }
    figures = compare(works, 3000)
    show("Rosenbrock, 100 dimensions", figures, 2.0 * figures["by hand"], "2 x")

    @jit
    def by_hand_batch(batch: Any, values: Any, gradients: Any) -> None:
        for i in range(len(batch)):
            values[i] = rosenbrock_loops(batch[i], gradients[i])

    batch = np.random.default_rng(2).standard_normal((1008, 100))
    out, slopes = np.empty(1008), np.empty((1008, 100))
    by_hand_batch(batch, out, slopes)
    values, gradients = program(batch)
    assert np.allclose(out, values, rtol=1e-12)
    assert np.allclose(slopes, gradients, rtol=1e-12, atol=1e-12)
    works = {
        "ours": lambda: program(batch),
        "by hand": lambda: by_hand_batch(batch, out, slopes),
    }
    figures = {name: t / 1008 for name, t in compare(works, 50).items()}
    show("the same, each of 1,008 in a batch", figures, 0.15, "0.15 us")


if __name__ == "__main__":
    main()
