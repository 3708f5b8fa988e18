"""Threads: graphs on shared parameters, modes of their own, programs and modules in common.

With MICROGRAD_LIKE_FULL=1 in the environment 100,000 graphs are built, elsewhere 1,600.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optional import np

from micrograd_like import (
    Value,
    affine,
    compile,
    derive,
    draw,
    grad,
    nn,
    no_grad,
    steps,
    topological_order,
)

THREADS = 8
GRAPHS = 100_000 if os.environ.get("MICROGRAD_LIKE_FULL") == "1" else 1_600


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads take turns a thousand times more often than they do by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(task: Callable[[int], None], count: int = THREADS) -> None:
    """Run the task in threads that start at the same time. Raises what one of them raised."""
    barrier = threading.Barrier(count, timeout=60)
    failures: list[BaseException] = []

    def run(k: int) -> None:
        try:
            barrier.wait()
            task(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


WS = [Value(0.1 * i, f"w{i}") for i in range(-3, 4)]


def graph(kind: int) -> Value:
    """One of many graphs over the shared parameters."""
    rng = random.Random(kind)
    y: Any = affine(WS, [rng.uniform(-1, 1) for _ in WS], WS[0]).tanh()
    for _ in range(rng.randrange(6)):
        a, b = rng.choice(WS), rng.choice(WS)
        y = rng.choice([y * a + b, (y - a).sigmoid() * y, y / (2 + b * b), (a * b + y).exp()])
    return y  # type: ignore[no-any-return]


def answer(kind: int) -> list[float]:
    """The gradient, and where the graph is among some of them the gradient of its norm."""
    y = graph(kind)
    first = grad(y, WS)
    if kind % 8:
        return [y.data, *first]
    norm = sum(g * g for g in grad(y, WS, create_graph=True))
    return [y.data, *first, *grad(norm, WS)]


def test_threads_that_share_parameters_never_get_a_wrong_gradient() -> None:
    expected = [answer(kind) for kind in range(64)]

    def task(k: int) -> None:
        for i in range(GRAPHS // THREADS):
            kind = (i * (2 * k + 1) + k) % len(expected)
            assert answer(kind) == expected[kind]

    together(task)
    assert [w.grad for w in WS] == [0.0] * len(WS)


def test_backward_in_threads_that_share_leaves_loses_no_gradient() -> None:
    """Dyadic numbers: their sums are exact in whatever order threads add them."""
    leaves = [Value(0.25), Value(-1.5), Value(2.0)]

    def loss() -> Value:
        a, b, c = leaves
        return a * b * c + (a * c) ** 2 - b * 3.0

    one = grad(loss(), leaves)

    def task(k: int) -> None:
        for _ in range(250):
            loss().backward()

    together(task)
    assert [v.grad for v in leaves] == [250 * THREADS * g for g in one]


def test_a_sweep_within_a_sweep_as_a_signal_handlers_loses_no_gradient() -> None:
    """Between any two lines of the one (in C there are none) comes the other, of shared leaves."""
    lines = 0
    for place in range(1, 100):
        x, y = Value(2.0), Value(3.0)
        lines, inner = 0, y * x * 2.0

        def tell(frame: Any, event: str, arg: Any, place: int = place, root: Value = inner) -> Any:
            nonlocal lines
            if frame.f_code.co_name != "backward":
                return None
            lines += event == "line"
            if event == "line" and lines == place:
                root.backward()  # which is not traced
            return tell

        outer = x * y + x
        before = sys.gettrace()
        sys.settrace(tell)
        try:
            outer.backward()
        finally:
            sys.settrace(before)
        if lines < place:
            break
        assert (x.grad, y.grad) == (4.0 + 6.0, 2.0 + 4.0), place
    assert place == lines + 1


def test_the_comparison_fails_where_threads_share_what_they_add_up_in() -> None:
    def by_backward(kind: int) -> list[float]:
        y = graph(kind)
        for w in WS:
            w.grad = 0.0
        y.backward()
        return [w.grad for w in WS]

    expected = [by_backward(kind) for kind in range(8)]

    differs = threading.Event()

    def task(k: int) -> None:
        for _ in range(20_000):
            if differs.is_set():
                break
            if by_backward(k) != expected[k]:
                differs.set()

    try:
        together(task)
        assert differs.is_set()
    finally:
        for w in WS:
            w.grad = 0.0


def test_no_grad_in_some_threads_leaves_the_graphs_of_the_others_whole() -> None:
    expected = [answer(kind) for kind in range(16)]

    def task(k: int) -> None:
        for i in range(60):
            kind = (i + k) % len(expected)
            if k % 2:
                with no_grad():
                    y = graph(kind)
                    assert (y.parents, y.data) == ((), expected[kind][0])
                assert graph(kind).parents
            else:
                assert answer(kind) == expected[kind]

    together(task)


def test_no_grad_holds_in_its_own_thread_only() -> None:
    x = Value(2.0)
    inside, checked = threading.Event(), threading.Event()
    seen: list[Any] = []

    def other() -> None:
        inside.wait(10)
        seen.append((x * x).parents)
        with no_grad():
            seen.append((x * x).parents)
        seen.append((x * x).parents)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        checked.wait(10)
        assert (x * x).parents == ()
    thread.join()
    assert seen == [(x, x), (), (x, x)]


def test_a_decorated_function_runs_in_several_threads() -> None:
    x = Value(2.0)
    together = threading.Barrier(4, timeout=10)
    seen: list[Any] = []

    @no_grad()
    def square() -> Value:
        together.wait()
        result = x * x
        together.wait()
        return result

    def task() -> None:
        seen.extend((square().parents, (x * x).parents) for _ in range(20))

    threads = [threading.Thread(target=task) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [((), (x, x))] * 80


@pytest.mark.parametrize("backend", ["numpy", "python", "numba"])
def test_a_program_is_shared_by_threads(backend: Any) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    model = nn.MLP(3, [4, 2], seed=0)
    xs = [Value(0.1 * i, f"x[{i}]") for i in range(3)]
    inputs = [*xs, *model.parameters()]
    program = compile(sum(v.tanh() for v in model(xs)), inputs, inputs, backend=backend)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(16, len(inputs)))
    expected = [program(point) for point in points]
    batch = [np.asarray(part) for part in program(points)]

    def task(k: int) -> None:
        for i in range(80):
            n = (i * (2 * k + 1) + k) % len(points)
            value, gradient = program(points[n])
            assert value == expected[n][0]
            assert list(gradient) == list(expected[n][1])
            if i % 16 == 0:
                again = [np.asarray(part) for part in program(points)]
                assert all(map(np.array_equal, again, batch))

    together(task)


def test_a_batch_and_an_exact_pass_are_made_once_or_more_but_right() -> None:
    """What a program makes at the first need, many need at once."""
    for _ in range(5):
        x = Value(1.0, "x")
        program = compile(x.relu() * x.exp(), [x], [x])

        def task(k: int, program: Any = program) -> None:
            value, gradient = program([float("nan")])
            assert np.isnan(value)
            assert np.isnan(gradient[0])
            values, _ = program([[1.0], [-1.0]])
            assert values.tolist() == [np.e, 0.0]

        together(task)


def test_graphs_are_drawn_derived_stepped_and_compiled_in_threads() -> None:
    def look(kind: int) -> tuple[Any, ...]:
        y = graph(kind)
        leaves = [node for node in topological_order(y) if node.op is None]
        return (
            draw(y).source,
            derive(y, leaves[0]).text,
            str(steps(y)),
            compile(y, leaves, leaves).source,
        )

    expected = [look(kind) for kind in range(4)]

    def task(k: int) -> None:
        for i in range(4):
            kind = (i + k) % len(expected)
            assert look(kind) == expected[kind]

    together(task)


def test_what_is_loaded_late_is_loaded_in_threads() -> None:
    pytest.importorskip("numpy")
    script = """
import sys, threading
sys.setswitchinterval(1e-6)
import micrograd_like as m
x = m.Value(2.0, "x")
y = x * x
uses = [lambda: m.draw(y).source, lambda: m.steps(y), lambda: m.derive(y, x).text,
        lambda: m.compile(y, [x])([3.0]), lambda: m.player, lambda: m.explain] * 2
barrier = threading.Barrier(len(uses))
done = []
def run(use):
    barrier.wait()
    use()
    done.append(use)
threads = [threading.Thread(target=run, args=(use,)) for use in uses]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done))
"""
    root = str(Path(__file__).parent.parent)
    out = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (out.stdout.strip(), out.stderr) == ("12", "")


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="CPython 3.13 needs 1 MiB: see README")
def test_a_graph_is_freed_on_the_smallest_stack() -> None:
    def deep(link: Callable[[Value, Value], Value]) -> list[Value]:
        x = y = Value(1.0)
        for _ in range(20_000):
            y = link(y, x)
        return [y]

    before = threading.stack_size(64 * 1024)
    try:
        for link in (
            lambda y, x: y + x,
            lambda y, x: x + y,
            lambda y, x: affine([y, x], [1.0, 1.0], x),
            lambda y, x: affine([x, x], [x, x], y),
        ):
            held = deep(link)
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
            assert held == []
    finally:
        threading.stack_size(before)
