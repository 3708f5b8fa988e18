"""What the engine in C must bear, and tests are too short for: `.ci/native` calls it.

    python tests/soak.py programs 100000     random programs, built, swept, copied and freed
    python tests/soak.py leaks 1000000       as many graphs: nothing is left of them
    python tests/soak.py memory              every allocation fails once: MemoryError, graphs whole

Needs the package to be installed, with the engine in C.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import random
import sys
from collections.abc import Callable
from typing import Any

from both import run
from programs import decode

import micrograd_like
from micrograd_like import Value, _native, affine, grad, no_grad, ops, topological_order
from micrograd_like.errors import MicrogradError


class Own(Value):
    """With attributes: what is made of it is tracked by the collector."""

    last: Value


class Plain(Value):
    __slots__ = ()


def programs(count: int) -> None:
    rng = random.Random(0)
    for i in range(count):
        program = decode(rng.randbytes(rng.choice((8, 20, 40, 80))))
        kind = (Value, Plain, Own)[i % 3]
        inputs = [kind(x) for x in program.inputs]
        results = [x for x in run(micrograd_like, program, inputs) if isinstance(x, Value)]
        root = results[-1]
        root.backward()
        grad(root, inputs)
        if i % 8 == 0:
            twins = copy.deepcopy(root), pickle.loads(pickle.dumps(root)), copy.copy(root)
            assert [twin.data.hex() for twin in twins] == [root.data.hex()] * 3
            with no_grad():
                run(micrograd_like, program, inputs)
        if i % 3 == 2:
            inputs[0].last = root  # type: ignore[attr-defined]
    print(f"{count:,} random programs")


def leaks(count: int) -> None:
    x, y = Value(0.5, "x"), Own(2.0, "y")

    def graph(i: int) -> None:
        z = affine([x, x], [1.0, 2.0], x * 2 - 1.5).tanh() ** 2 / 3 + ops.maximum(x, 0.25)
        z.backward()
        if i % 50 == 0:
            grad(copy.deepcopy(z) * y, y)
            with no_grad():
                z = z * y
            with contextlib.suppress(MicrogradError):
                (-z).log()
            own = Own(1.0, f"own {i}")
            own.last = own * 2.0

    def held() -> tuple[int, int]:
        gc.collect()
        return _native.count_alive(), sys.getallocatedblocks()

    for i in range(2_000):
        graph(i)
    nodes, blocks = held()
    for i in range(count):
        graph(i)
    left, more = held()[0] - nodes, held()[1] - blocks
    assert left == 0, f"{left} nodes are left"
    assert more < 5_000, f"{more} blocks are left"
    print(f"{count:,} graphs: {left} nodes and {more} blocks are left")


def memory() -> None:
    try:
        from _testcapi import remove_mem_hooks, set_nomemory
    except ImportError:
        print("this Python has no _testcapi: failures of memory are not tried")
        return

    x, y, own = Value(0.5, "x"), Value(-2.0, "y"), Own(3.0, "own")
    deep = x
    for _ in range(100):
        deep = deep * y + own * 0.001
    pickled = pickle.dumps(deep)
    acts: dict[str, Callable[[], Any]] = {
        "leaf": lambda: Value(1.0, "leaf"),
        "leaf, by name": lambda: Value(data=1, label="leaf"),
        "own": lambda: Own(1, label="own"),
        "add": lambda: x + y,
        "constant": lambda: 3 * x - 2.5,
        "tracked": lambda: own * x / 7,
        "power": lambda: x**3 + y**-1,
        "negative": lambda: -own,
        "row": lambda: ops.maximum(x, y) + ops.where(1.0, own, x),
        "unary": lambda: x.tanh() + own.exp(),
        "affine": lambda: affine([x, y], [1.0, 2.0], own) + affine([x] * 50, [y] * 50, y),
        "compared": lambda: x < 1,
        "refused": lambda: y.log(),
        "refused, too": lambda: x / 0,
        "no number": lambda: x + "1",  # type: ignore[operator]
        "silent": lambda: no_grad()(lambda: ops.maximum(x * y, own))(),
        "seen": lambda: (deep.operands, deep.parents, deep.local_grads, deep.edges, repr(deep)),
        "order": lambda: topological_order(deep),
        "backward": lambda: deep.backward(),
        "grad": lambda: grad(deep, [x, y]),
        "copied": lambda: copy.deepcopy(deep),
        "pickled": lambda: pickle.loads(pickled),
        "subclass": lambda: type("Sub", (Value,), {"__slots__": ()})(1.0),
    }
    failures = 0
    for name, act in acts.items():
        expected = _outcome(act)
        nodes = topological_order(deep)
        state = [(node.data, node.parents, node.local_grads) for node in nodes]
        for v in (x, y, own):
            v.grad = 1.0
        place = -1
        result: Any = MemoryError
        while place < 20 or result is MemoryError:
            place += 1
            gc.collect(0)
            set_nomemory(place, place + 1)
            try:
                result = _outcome(act)
            finally:
                remove_mem_hooks()
            if result is SystemError and expected is not None:
                result = MemoryError  # the interpreter's own, where it makes another exception
            failures += result is MemoryError
            assert result in (MemoryError, expected), (name, place, result)
            assert topological_order(deep) == nodes
            assert [(node.data, node.parents, node.local_grads) for node in nodes] == state
            if result is MemoryError:
                assert [v.grad for v in (x, y, own)] == [1.0] * 3, name
            for v in (x, y, own):
                v.grad = 1.0
            assert place < 100_000
    print(f"{len(acts)} acts met {failures:,} failures of memory")


def _outcome(act: Callable[[], Any]) -> type | None:
    """The kind of exception that the act ends with."""
    try:
        act()
    except Exception as error:
        return type(error)
    return None


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    {"programs": programs, "leaks": leaks, "memory": memory}[name](*map(int, arguments))
