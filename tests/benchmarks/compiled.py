"""Compiled programs against the code that one would derive and write by hand.

    python tests/benchmarks/compiled.py [--short] [--plot FILE.png]

Medians of rounds that alternate, of what the user calls: an array in, arrays out. BLAS has one
thread. `baselines.py` is the hand-written code. Needs the extra `compile`; torch is timed where it
is installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from baselines import (
    demo_data,
    demo_numpy,
    digits_numpy,
    rosenbrock_numpy,
    rosenbrock_python,
)

from micrograd_like import Value, compile, compile_step, losses, nn, training
from micrograd_like.datasets import digits

MISSED: list[str] = []


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Microseconds of each, medians of single calls in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter_ns()
            call()
            times[name].append((time.perf_counter_ns() - start) / 1e3)
    return {name: median(values) for name, values in times.items()}


def table(title: str, times: dict[str, float], base: str, targets: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, t in times.items():
        ratio = t / times[base]
        verdict = ""
        if name in targets:
            met = ratio <= targets[name]
            verdict = f"   <= {targets[name]:g}   {'ok' if met else 'MISSED'}"
            if not met:
                MISSED.append(f"{title}: {name} is {ratio:.2f} times {base}")
        print(f"  {name:34}{t:12.2f} us{ratio:9.2f}{verdict}")


def demo_graph() -> tuple[list[Value], Value, np.ndarray]:
    """The demo's loss as a graph of single operations, its inputs in the baseline's order."""
    theta, XT, y = demo_data()
    at = iter(theta.tolist())
    shapes = ((16, 2), (16, 16), (1, 16))
    W = [
        [[Value(next(at), f"W{k + 1}[{i}][{j}]") for j in range(n)] for i in range(m)]
        for k, (m, n) in enumerate(shapes)
    ]
    b = [[Value(next(at), f"b{k + 1}[{i}]") for i in range(m)] for k, (m, _) in enumerate(shapes)]
    total = Value(0.0)
    for s in range(len(y)):
        h: list[Value | float] = XT[:, s].tolist()
        for k in range(3):
            sums = []
            for row, bias in zip(W[k], b[k], strict=True):
                z = bias
                for w, x in zip(row, h, strict=True):
                    z = z + w * x
                sums.append(z)
            h = [z.relu() for z in sums] if k < 2 else list(sums)
        total = total + (1.0 - float(y[s]) * h[0]).relu()
    parameters = [w for layer in W for row in layer for w in row] + [v for bs in b for v in bs]
    loss = total * 0.01 + 1e-4 * sum(p * p for p in parameters)
    return parameters, loss, theta


def demo(rounds: int) -> None:
    parameters, loss, theta = demo_graph()
    program = compile(loss, parameters, parameters)
    _, XT, y = demo_data()
    value, gradient = program(theta)
    expected = demo_numpy(theta, XT, y)
    assert abs(value - expected[0]) < 1e-12
    assert np.allclose(gradient, expected[1], rtol=1e-10, atol=1e-15)
    times = interleaved(
        {
            "hand-derived NumPy": lambda: demo_numpy(theta, XT, y),
            "compile, numpy": lambda: program(theta),
        },
        rounds,
    )
    title = "Demo step: 100 points, MLP 2-16-16-1, hinge + L2, value and gradients"
    table(title, times, "hand-derived NumPy", {"compile, numpy": 1.0})
    print(f"  {program.report()}")


def rosenbrock(rounds: int) -> None:
    point = np.random.default_rng(1).standard_normal(100)
    x = [Value(v, f"x[{i}]") for i, v in enumerate(point.tolist())]
    f = sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(99))
    arrays, straight = compile(f, x, x), compile(f, x, x, backend="python")
    assert np.allclose(arrays(point)[1], rosenbrock_numpy(point)[1], rtol=1e-10)
    numbers = point.tolist()
    times = interleaved(
        {
            "hand-written NumPy": lambda: rosenbrock_numpy(point),
            "compile, numpy": lambda: arrays(point),
        },
        rounds,
    )
    title = "Rosenbrock in 100 dimensions, value and gradient"
    table(title, times, "hand-written NumPy", {"compile, numpy": 1.2})
    times = interleaved(
        {
            "hand-written Python": lambda: rosenbrock_python(numbers),
            "compile, python": lambda: straight(numbers),
        },
        rounds,
    )
    table("The same on lists of floats", times, "hand-written Python", {"compile, python": 1.1})


def digit_step(rounds: int) -> None:
    data = digits()
    X, y = np.asarray(data.scaled()[:64]), np.asarray(data.y[:64])
    model = nn.MLP(64, [64, 10], "tanh", seed=0)
    step = compile_step(model, losses.cross_entropy, (X[0].tolist(), int(y[0])))
    W, b = [], []
    for layer in model.layers:
        W.append(np.array([[w.data for w in n.w] for n in layer.neurons]).T.copy())
        b.append(np.array([n.b.data for n in layer.neurons]))
    hand = lambda: digits_numpy(W[0], b[0], W[1], b[1], X, y)  # noqa: E731
    assert abs(step.value_and_grad(X, y)[0] - hand()[0]) < 1e-12
    values, examples = step.arrays(X, y)
    contenders: dict[str, Callable[[], object]] = {
        "hand-derived NumPy": hand,
        "compile_step, arrays in and out": lambda: step.function(values, examples),
        "compile_step, with .data as input": lambda: step.value_and_grad(X, y),
    }
    try:
        import torch
    except ImportError:
        print("\n(torch is not installed: not timed)")
    else:
        torch.set_num_threads(1)
        net = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 10)
        ).double()
        tX, ty = torch.tensor(X), torch.tensor(y)

        def torch_step() -> None:
            net.zero_grad()
            torch.nn.functional.cross_entropy(net(tX), ty).backward()

        contenders["torch, eager"] = torch_step
    title = "Digits: MLP 64-64-10, softmax cross-entropy, batch of 64"
    times = interleaved(contenders, rounds)
    table(title, times, "hand-derived NumPy", {"compile_step, arrays in and out": 1.1})


def train_digits() -> None:
    start = time.perf_counter()
    data = digits()
    X, y = data.scaled(), data.y
    model = nn.MLP(64, [32, 10], "tanh", seed=0)
    history = training.fit(model, X[360:], y[360:], epochs=12, engine="compiled")
    seconds = time.perf_counter() - start
    step = compile_step(model, losses.cross_entropy, (X[0], y[0]))
    step.evaluate(X[:360], y[:360])
    right = float(np.mean(step.outputs.argmax(1) == np.asarray(y[:360])))
    verdict = "ok" if seconds < 5.0 and right > 0.96 else "MISSED"
    print(
        f"\nTraining on digits, compilation included: {seconds:.2f} s, {right:.1%} of held-out "
        f"digits right (training: {history.accuracy[-1]:.1%})   < 5 s   {verdict}"
    )


def compilation(short: bool) -> None:
    print("\nCompiling a graph of single operations, gradient included, in CPU time")
    x = Value(1.0)
    compile(x * x, [x], [x])
    sizes = (10_000, 100_000) if short else (10_000, 100_000, 1_000_000)
    each: list[float] = []  # microseconds a node
    for size in sizes:
        examples = max(1, size // 1890)
        model = nn.MLP(2, [16, 16, 1], "tanh", seed=0, fused=False)
        points = np.random.default_rng(0).standard_normal((examples, 2)).tolist()
        loss = sum(model(p) ** 2 for p in points)
        parameters = model.parameters()
        times = []
        for _ in range(3 if size < 1_000_000 else 1):
            start = time.process_time()
            program = compile(loss, parameters, parameters)
            times.append(time.process_time() - start)
        nodes = program.report().nodes
        each.append(min(times) / nodes * 1e6)
        verdict = "ok" if each[-1] <= 4.0 else "MISSED"
        if verdict == "MISSED":
            MISSED.append(f"compiling {nodes:,} nodes: {each[-1]:.1f} us a node")
        print(
            f"  {nodes:>10,} nodes {min(times):8.2f} s {each[-1]:7.2f} us a node"
            f"   <= 4 us   {verdict}"
        )
    growth = each[-1] / each[-2]
    verdict = "ok" if growth <= 1.3 else "MISSED"
    if verdict == "MISSED":
        MISSED.append(
            f"compiling ten times as many nodes takes {growth:.2f} times as long for each"
        )
    print(
        f"  of ten times as many nodes each takes {growth:.2f} times as long   <= 1.3   {verdict}"
    )
    model = nn.MLP(784, [128, 10], "tanh", seed=0)
    x = np.random.default_rng(0).standard_normal(784).tolist()
    start = time.perf_counter()
    compile_step(model, losses.cross_entropy, (x, 3))
    seconds = time.perf_counter() - start
    verdict = "ok" if seconds <= 3.0 else "MISSED"
    if verdict == "MISSED":
        MISSED.append(f"one example of MLP 784-128-10: {seconds:.1f} s")
    print(f"  one example of MLP 784-128-10: {seconds:.2f} s   <= 3 s   {verdict}")


def scaling(short: bool, plot: str | None) -> None:
    """A step over batch sizes and widths, against hand-derived NumPy, and torch if it is there."""
    try:
        import torch
    except ImportError:
        torch = None
    widths, batches = ((16, 256), (1, 100)) if short else ((4, 64, 1024), (1, 10, 100, 1000, 10**5))
    print("\nMLP 64-width-10, microseconds a step; ratio of ours to hand-derived NumPy")
    print(f"  {'width':>6}{'batch':>9}{'by hand':>12}{'ours':>12}{'torch':>12}{'ratio':>8}")
    figures: dict[int, list[tuple[int, dict[str, float]]]] = {}
    for width in widths:
        model = nn.MLP(64, [width, 10], "tanh", seed=0)
        rng = np.random.default_rng(0)
        W, b = [], []
        for layer in model.layers:
            W.append(np.array([[w.data for w in n.w] for n in layer.neurons]).T.copy())
            b.append(np.array([n.b.data for n in layer.neurons]))
        step = compile_step(model, losses.cross_entropy, ([0.1] * 64, 1))
        for batch in batches:
            if batch * width > 10**7:
                continue
            X, y = rng.standard_normal((batch, 64)), rng.integers(0, 10, batch)
            values, examples = step.arrays(X, y)
            contenders: dict[str, Callable[[], object]] = {
                "by hand": lambda X=X, y=y, W=W, b=b: digits_numpy(W[0], b[0], W[1], b[1], X, y),
                "ours": lambda v=values, e=examples, s=step: s.function(v, e),
            }
            if torch is not None:
                torch.set_num_threads(1)
                net = torch.nn.Sequential(
                    torch.nn.Linear(64, width), torch.nn.Tanh(), torch.nn.Linear(width, 10)
                ).double()

                def run(net=net, X=torch.tensor(X), y=torch.tensor(y)) -> None:
                    net.zero_grad()
                    torch.nn.functional.cross_entropy(net(X), y).backward()

                contenders["torch"] = run
            times = interleaved(contenders, 5 if batch * width > 10**6 else 50)
            figures.setdefault(width, []).append((batch, times))
            ratio = times["ours"] / times["by hand"]
            shown = "".join(
                f"{times.get(k, float('nan')):12.1f}" for k in ("by hand", "ours", "torch")
            )
            print(f"  {width:6}{batch:9,}{shown}{ratio:8.2f}")
    if plot:
        draw(figures, plot)


def draw(figures: dict[int, list[tuple[int, dict[str, float]]]], path: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    styles = {"by hand": ("#0b57a4", "o-"), "ours": ("#e07b00", "s--"), "torch": ("#777777", "^:")}
    for axes, (width, rows) in zip(figure.subplots(1, len(figures), sharey=True), figures.items()):
        for name, (color, style) in styles.items():
            points = [(batch, times[name]) for batch, times in rows if name in times]
            if points:
                label = "hand-derived NumPy" if name == "by hand" else name
                axes.loglog(*zip(*points), style, color=color, label=label, markersize=4)
        axes.set(title=f"MLP 64-{width}-10", xlabel="examples in a batch")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("µs a step")
    figure.axes[0].legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds, smaller graphs")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the scaling (needs matplotlib)")
    arguments = parser.parse_args()
    short = arguments.short
    rounds = 300 if short else 2000
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} CPUs")
    demo(rounds)
    rosenbrock(rounds)
    digit_step(rounds)
    train_digits()
    compilation(short)
    scaling(short, arguments.plot)
    print("\n" + ("\n".join(f"MISSED  {what}" for what in MISSED) or "All targets met."))


if __name__ == "__main__":
    main()
