"""What the engine in C must bear, and tests are too short for: `.ci/native` calls it.

    python tests/soak.py programs 100000     random programs, built, swept, copied and freed
    python tests/soak.py leaks 1000000       as many graphs: nothing is left of them
    python tests/soak.py memory              every allocation fails once: MemoryError, graphs whole
    python tests/soak.py ends                what ends with a graph makes, sweeps and frees others

Needs the package to be installed, with the engine in C.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from both import run
from programs import decode

import micrograd_like
from micrograd_like import Value, _native, affine, grad, modes, no_grad, ops, topological_order
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
            no_grad.reopen(())  # the interpreter may have failed to call its end
            modes.open_blocks.clear()
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


class Ends(Value):
    """Makes and sweeps graphs at its end, and sometimes does not end."""

    __slots__ = ("__weakref__", "last")
    saved: ClassVar[list[Any]] = []

    def __del__(self) -> None:
        _grown(self).backward()
        if self.data == 3.0:
            self.saved.append(self)


class Cell:
    """Stands for a row: it keeps a Value, whose end comes with that of a node."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __del__(self) -> None:
        if isinstance(self.value, Ends):
            _grown(self.value)


def _grown(x: Value, n: int = 30) -> Value:
    for i in range(n):
        x = x * 1.0 if i % 3 else affine([x, x], [1.0, 0.5], x)
    return x.tanh()


def ends(count: int) -> None:
    before = _native.count_alive()

    def graphs(k: int) -> None:
        for i in range(count):
            x = Ends(float(i % 5))
            gone = weakref.ref(x, lambda _: _grown(Value(1.0)).backward())
            x.last = _grown(x) if i % 2 else None
            cell = Cell(Ends(float(i % 5)))
            y = Value.__assemble__(1.0, cell, [_grown(x * k)], [1.0])
            y = _grown(Own(1.0) * y)
            y.backward()
            del x, y, cell
            Ends.saved.clear()
            assert i % 2 or i % 5 == 3 or gone() is None

    def deep() -> None:
        y: Any = Value(1.0)
        for _ in range(10_000):
            own = Own(1.0)
            own.last = Value.__assemble__(1.0, Cell(y), [y], [1.0])
            y = own * 2.0

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=graphs, args=(k,)) for k in range(4)]
    threading.stack_size(256 << 10 if "asan" not in os.environ.get("LD_PRELOAD", "") else 4 << 20)
    threads.append(threading.Thread(target=deep))
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):  # a process that forks frees its own
        if not (child := os.fork()):
            alive = _native.count_alive()
            _grown(Value(1.0), 1_000).backward()
            os._exit(_native.count_alive() - alive)
        assert os.waitpid(child, 0)[1] == 0
        time.sleep(0.05)
    while Ends.saved or gc.collect():
        Ends.saved.clear()
    left = _native.count_alive() - before
    assert left == 0, f"{left} nodes are left"
    print(f"{4 * count:,} graphs that end in others: {left} nodes are left")


def _outcome(act: Callable[[], Any]) -> type | None:
    """The kind of exception that the act ends with."""
    try:
        act()
    except Exception as error:
        return type(error)
    return None


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    acts = {"programs": programs, "leaks": leaks, "memory": memory, "ends": ends}
    acts[name](*map(int, arguments))
