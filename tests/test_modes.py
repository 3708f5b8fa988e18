"""Modes in threads, tasks and processes that were forked; the collector's pause."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache, partial

import pytest

from micrograd_like import Value, affine, grad, jvp, modes, no_grad, ops
from micrograd_like.errors import OperandError
from micrograd_like.modes import apart, tracing


def has_parents() -> bool:
    return bool((Value(1.0) * 2.0).parents)


def test_a_mode_is_in_force_within_its_block_alone() -> None:
    assert has_parents()
    with no_grad():
        with no_grad():
            assert not has_parents()
        assert not has_parents()
    assert has_parents()
    assert modes.open_blocks == []


def test_a_thread_has_modes_of_its_own() -> None:
    inside: list[bool] = []
    with no_grad():
        thread = threading.Thread(target=lambda: inside.append(has_parents()))
        thread.start()
        thread.join()
    assert inside == [True]


def test_a_task_inherits_a_block_until_it_ends_whatever_others_do() -> None:
    seen: list[bool] = []

    async def worker(turns: list[asyncio.Event]) -> None:
        for turn in turns:
            await turn.wait()
            seen.append(has_parents())

    async def main() -> None:
        turns = [asyncio.Event() for _ in range(4)]
        with no_grad():
            task = asyncio.create_task(worker(turns))
            turns[0].set()
            await asyncio.sleep(0.01)
        turns[1].set()  # no block is open anywhere
        await asyncio.sleep(0.01)
        with no_grad():  # one that the task has nothing to do with
            turns[2].set()
            await asyncio.sleep(0.01)
        turns[3].set()
        await task

    asyncio.run(main())
    assert seen == [False, True, True, True]


def test_a_context_copied_within_a_block_is_without_it_once_it_has_ended() -> None:
    with no_grad():
        context = contextvars.copy_context()
        assert not context.run(has_parents)
    assert context.run(has_parents)
    with no_grad():
        assert context.run(has_parents)


def test_blocks_that_end_in_another_order_than_they_began() -> None:
    first, second = no_grad(), no_grad()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert not has_parents()
    second.__exit__()
    assert has_parents()


def test_an_exit_where_no_block_is_open_changes_nothing() -> None:
    no_grad().__exit__(None, None, None)
    assert has_parents()


def test_a_decorated_function_that_calls_itself() -> None:
    @no_grad()
    def depth(n: int) -> int:
        assert not has_parents()
        return 0 if n == 0 else 1 + depth(n - 1)

    assert depth(5) == 5
    assert has_parents()


def run_alone(program: str) -> None:
    """Run it in a fresh interpreter: to fork beside the threads of JAX or NumPy is a hazard."""
    done = subprocess.run(
        [sys.executable, "-c", HAS_PARENTS + program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


HAS_PARENTS = """
import gc, os, sys, threading
from micrograd_like import Value, modes, no_grad
from micrograd_like.modes import paused

def has_parents():
    return bool((Value(1.0) * 2.0).parents)
"""
FORK_BESIDE_THREADS = """
sys.setswitchinterval(1e-5)
stop = threading.Event()

def busy():
    while not stop.is_set():
        with no_grad(), paused():
            Value(1.0) * 2.0

threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    for _ in range(20):
        child = os.fork()
        if child == 0:
            with no_grad(), paused():
                wrong = has_parents()
            os._exit(wrong or not has_parents() or modes.open_blocks != [] or not gc.isenabled())
        assert os.waitpid(child, 0)[1] == 0
finally:
    stop.set()
    for thread in threads:
        thread.join()
"""
FORK_WITHIN_A_BLOCK = """
with no_grad(), paused():
    child = os.fork()
    if child == 0:
        inside = has_parents() or gc.isenabled()
if child == 0:
    os._exit(inside or not has_parents() or not gc.isenabled())
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_while_other_threads_enter_modes_goes_on() -> None:
    run_alone("import warnings; warnings.simplefilter('ignore')" + FORK_BESIDE_THREADS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_within_a_block_is_within_it_until_it_ends() -> None:
    run_alone(FORK_WITHIN_A_BLOCK)


class Recorder:
    """What an open trace is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def made(self, node: Value) -> None:
        assert node.op is not None
        self.heard.append(node.op.name)

    def touched(self, value: Value) -> None:
        self.heard.append("touched")

    def compared(self, sign: Callable[[float, float], bool], x: Value, y: object) -> bool:
        self.heard.append((sign.__name__, x, y))
        return False

    def detached(self, value: Value) -> Value:
        self.heard.append("detached")
        return value


X, Y = Value(2.0), Value(3.0)


@pytest.mark.parametrize(
    ("use", "heard"),
    [
        (lambda: -(X + 1.0), ["add", "neg"]),
        (lambda: X.tanh(), ["tanh"]),
        (lambda: ops.maximum(X, Y), ["max"]),
        (lambda: affine([X], [Y], Y), ["affine"]),
        (lambda: X.data, ["touched"]),
        (lambda: setattr(X, "data", 2.0), ["touched"]),
        (lambda: X.grad, ["touched"]),
        (lambda: f"{X:.2f}", ["touched"]),
        (lambda: X.local_grads, ["touched"]),
        (lambda: (X * Y).edges, ["mul", "touched"]),
        (lambda: Y.backward(), ["touched"]),
        (lambda: grad(Y, X), ["touched"]),
        (lambda: grad(X * Y, X, create_graph=True), ["mul"]),
        (lambda: jvp(X + Y, X, 1.0), ["add", "touched", "touched"]),
        (lambda: X < Y, [("lt", X, Y)]),
        (lambda: X > 2.0, [("gt", X, 2.0)]),
        (lambda: X == 2.0, []),
        (lambda: X.detach(), ["detached"]),
    ],
)
def test_a_trace_is_told_what_happens_to_values(
    use: Callable[[], object], heard: list[object]
) -> None:
    recorder = Recorder()
    with tracing(recorder):
        use()
    use()
    assert recorder.heard == heard


def test_a_trace_is_told_of_nodes_before_no_grad_makes_leaves_of_them() -> None:
    recorder = Recorder()
    with tracing(recorder), no_grad():
        node = ops.maximum(X * X, Y)
    assert recorder.heard == ["mul", "max"]
    assert node.op is None


def test_what_runs_later_is_not_decorated() -> None:
    async def coroutine() -> None: ...
    def generator() -> Iterator[int]:
        yield 1

    async def both() -> AsyncIterator[int]:
        yield 1

    class Called:
        async def __call__(self) -> None: ...
        def method(self) -> Iterator[int]:
            yield 1

    partials = partial(coroutine), partial(partial(generator))
    others = staticmethod(coroutine), lru_cache(generator), lru_cache(partials[1])
    for function in (coroutine, generator, both, *partials, *others, Called(), Called().method,
                     Called):  # fmt: skip
        name = getattr(function, "__name__", type(function).__name__)
        with pytest.raises(OperandError, match=rf"over before .*{name}.*with no_grad"):
            no_grad()(function)
    assert no_grad()(partial(len, "abc"))() == no_grad()(lru_cache(len))("abc") == 3


def test_apart_from_what_is_in_force_around_it() -> None:
    with no_grad():
        with apart():
            assert has_parents()
            with no_grad():
                assert not has_parents()
        assert not has_parents()
