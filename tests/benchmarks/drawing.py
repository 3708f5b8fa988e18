"""How long drawing takes: the plan of a picture, and its layout by each renderer at hand.

    python tests/benchmarks/drawing.py

Prints seconds, medians of five, beside what is asked of them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from micrograd_like import Value, draw, nn, topological_order
from micrograd_like.datasets import moons
from micrograd_like.views import drawing

ROUNDS = 5


def example() -> Value:
    return nn.MLP(2, [16, 16, 1], seed=0)([Value(1.0, label="x[0]"), Value(-2.0, label="x[1]")])


def loss() -> Value:
    model = nn.MLP(2, [16, 16, 1], seed=0)
    data = moons(100)
    targets = [1.0 if label else -1.0 for label in data.y]
    terms = [(1 - t * model(x)).relu() for x, t in zip(data.X, targets, strict=True)]
    return sum(terms) / 100 + 1e-4 * sum(p * p for p in model.parameters())


def large() -> Value:
    model = nn.MLP(8, [32, 32, 4], seed=0)
    return sum(sum(model([float((i * k) % 7) for k in range(8)])) for i in range(750))


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


def main() -> None:
    beside = str(Path(sys.executable).parent)
    renderers = {
        name: shutil.which(name) or shutil.which(name, path=beside)
        for name in ("dot", "graphviz-pure")
    }
    found = {name: path for name, path in renderers.items() if path}
    print(f"{'graph':42}{'nodes':>9}{'plan':>9}{''.join(f'{name:>15}' for name in found)}")
    for name, make, limit in (
        ("MLP(2, [16, 16, 1]) on one example", example, 2.0),
        ("its loss over 100 examples", loss, 2.0),
        ("MLP(8, [32, 32, 4]) on 750 examples", large, 10.0),
    ):
        root = make()
        root.backward()
        plan = seconds(lambda root=root: draw(root))
        whole = []
        for path in found.values():
            drawing.renderer = lambda path=path: path
            whole.append(seconds(lambda root=root: draw(root).svg))
        verdict = "ok" if max([plan, *whole]) <= limit else "MISSED"
        columns = "".join(f"{t:15.3f}" for t in whole)
        print(
            f"{name:42}{len(topological_order(root)):>9,}{plan:9.3f}{columns}"
            f"   <= {limit:g} s   {verdict}"
        )


if __name__ == "__main__":
    main()
