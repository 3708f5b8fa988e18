"""Modes: what is in force within a `with` block, such as `no_grad`, and the collector's pause.

An open trace (`tracing`) is told of four things, each at one place of the engine, which any other
engine would have to keep: a node was made (`_under_modes`), a number is read or written from
outside (`touched`: `data`, `grad`, and sweeps that give floats), two numbers are compared
(`Methods`), and a Value is detached (`Copies`). The engine itself reads slots, of which a trace
need not know. Where no mode is open, each costs one look at `open_blocks`. The first two are when
a training that has parameters as arrays (`waiting`) lets their Values have what it learned; so are
an assignment to `grad`, and `numbers_of`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock, RLock
from typing import Any, Self, TypeVar

from .errors import Count, OperandError

ValueT = TypeVar("ValueT")


class Block:
    """One `with` block of a mode, which is open until it ends: for all who inherited it, too."""

    __slots__ = ("entry", "is_open")

    def __init__(self, entry: Any) -> None:
        self.entry = entry
        self.is_open = True


# A mode is in force where its context variable has a block that is open. `open_blocks` has those
# of all threads and tasks: while it is empty, operations look no further. It never decides.
open_blocks: list[Block] = []
silences: ContextVar[tuple[Block, ...]] = ContextVar("no_grad", default=())
watches: ContextVar[tuple[Block, ...]] = ContextVar("watch", default=())  # of `detect_anomaly`
traces: ContextVar[tuple[Block, ...]] = ContextVar("trace", default=())  # of `compile_step`
waits: ContextVar[tuple[Block, ...]] = ContextVar("waiting", default=())  # of `step.training`


def innermost(variable: ContextVar[tuple[Block, ...]]) -> Any:
    """The entry of the innermost block of a mode that is open here, or None.

    A task inherits the blocks that it was begun in. Those that have ended since do not count.
    """
    for block in reversed(variable.get()):
        if block.is_open:
            return block.entry
    return None


# The flags of code of generators, coroutines, and both (inspect.CO_...): a call only makes them.
_LATER = 0x20 | 0x80 | 0x200


class Mode(ContextDecorator):
    """A context, or decorator, within which a context variable has one block more."""

    _variable: ContextVar[tuple[Block, ...]]
    _entry: Any = True

    def __call__(self, function: Any) -> Any:
        """Decorate a function. Raises OperandError for one that runs later: see `_LATER`."""
        called = function
        while isinstance(called, (partial, staticmethod)) or hasattr(called, "cache_parameters"):
            called = called.func if isinstance(called, partial) else called.__wrapped__
        code = getattr(called, "__code__", getattr(type(called).__call__, "__code__", None))
        if getattr(code, "co_flags", 0) & _LATER or isinstance(called, type):
            kind = "class" if isinstance(called, type) else "coroutine or generator"
            raise OperandError(
                f"{type(self).__name__}() decorates functions, and would be over before what "
                f"{function!r:.80}, a {kind}, has to do: write `with {type(self).__name__}():` "
                "in it"
            )
        return super().__call__(function)

    @classmethod
    def open_here(cls) -> tuple[Block, ...]:
        """The mode's blocks in this thread or task that have not ended."""
        return tuple([block for block in cls._variable.get() if block.is_open])

    def __enter__(self) -> Self:
        # No locks: a process that is forked while another thread held one would wait for ever.
        block = Block(self._entry)
        try:
            open_blocks.append(block)
            self._variable.set((*self.open_here(), block))
        except BaseException:  # Ctrl-C, say: without __enter__ there will be no __exit__
            self._close(block)
            raise
        return self

    def __exit__(self, kind: object = None, error: object = None, where: object = None) -> None:
        blocks = self._variable.get()
        k = len(blocks) - 1  # nothing is made before it is closed: memory may be short
        while k >= 0 and not blocks[k].is_open:
            k -= 1
        if k >= 0:
            self._close(blocks[k])

    @classmethod
    def reopen(cls, blocks: tuple[Block, ...]) -> None:
        """End those that are open here and not among `blocks`: Ctrl-C may have kept them open."""
        for block in cls.open_here():
            if block not in blocks:
                cls._close(block)

    @classmethod
    def _close(cls, block: Block) -> None:
        block.is_open = False  # whatever interrupts what follows, it is not in force any more
        if block in open_blocks:
            open_blocks.remove(block)
        cls._variable.set(cls.open_here())


class no_grad(Mode):  # noqa: N801 - the name PyTorch gave it
    """Within this context (or decorated function) results have no parents, as if made by hand.

    So `backward()` of such a result reaches nothing, without a word. To change a parameter, assign
    its `data`, as in p.data -= 0.1 * p.grad: p -= ... gives the name p to a new Value.

    >>> from micrograd_like import Value
    >>> x = Value(3.0)
    >>> with no_grad():
    ...     (x * x).parents
    ()
    """

    _variable = silences


class tracing(Mode):  # noqa: N801 - a context, as the other modes
    """Within this context a recorder is told of what happens to Values: see above.

    It has the methods `made(node)`, `touched(value)`, `compared(sign, x, y)`, which returns the
    outcome, and `detached(value)`, which returns what the program gets.
    """

    _variable = traces

    def __init__(self, recorder: Any) -> None:
        self._entry = recorder


class waiting(Mode):  # noqa: N801 - a context, as the other modes
    """Within this context a training has parameters as arrays, until their Values are used.

    It has a set of Values, `learned`, and `write()`, which lets them have what it learned, if it
    `is_ahead`.
    """

    _variable = waits

    def __init__(self, training: Any) -> None:
        self._entry = training

    def __exit__(self, *exc: object) -> None:
        for block in [*open_blocks]:  # whatever is in force here: Ctrl-C may have come in `apart`
            if block.entry is self._entry:
                self._close(block)


def land(values: Collection[Any], but: Any = None) -> bool:
    """Let these Values have what trainings here, but for one, learned; whether they had it not."""
    landed = False
    for block in waits.get():
        training = block.entry
        if training.is_ahead and block.is_open and training is not but:
            landed |= not training.learned.isdisjoint(values) and training.write()
    return landed


def settle() -> None:
    """Let all Values have what trainings here learned: they are about to be looked at."""
    for block in waits.get():
        if block.is_open:
            block.entry.write()


@contextmanager
def apart(*variables: ContextVar[tuple[Block, ...]]) -> Iterator[None]:
    """Within, no block around it of these modes is in force; `no_grad` and watches by default."""
    outside = [(variable, variable.get()) for variable in variables or (silences, watches)]
    try:
        for variable, _ in outside:
            variable.set(())
        yield
    finally:
        for variable, blocks in outside:
            variable.set(blocks)


def touched(value: ValueT) -> ValueT:
    """The value, one of whose numbers is used: which a trace that is open here is told."""
    if traces.get() and (trace := innermost(traces)):
        trace.touched(value)
    if waits.get():
        land((value,))
    return value


def swept(root: Any, seed: float, wrt: Any = None) -> None:
    """Tell what is in force here that `root` is about to be swept, for numbers."""
    if open_blocks:
        touched(root)
        settle()
        if watch := innermost(watches):
            watch.foresee(root, seed, wrt)


def made(node: Any) -> Any:
    """Tell what is in force here of a new node; a watch may give another one for it.

    So does what its operands have learned since they were written.
    """
    if waits.get() and land(node.operands):
        return node.__apply_op__(node.op, node.operands)
    if watches.get() and (watch := innermost(watches)):
        node = watch.made(node)
    if (blocks := traces.get()) and (last := blocks[-1]).is_open:  # as nearly always: in short
        last.entry.made(node)
    elif blocks and (trace := innermost(traces)):
        trace.made(node)
    return node


# Held by the thread whose `backward` gathers gradients in nodes. A signal handler may sweep, too.
sweeping = RLock()

_pauses, _own_pauses = 0, Count()  # of all threads, and of each
_was_enabled = False  # whether the collector was on before the first of them
_lock = Lock()


@contextmanager
def paused() -> Iterator[None]:
    """No cyclic garbage collection: graphs have no cycles, and looking for some takes a third.

    Threads may be in here together; the last one out restores what the first one found.
    """
    global _pauses, _was_enabled
    counted = False
    try:
        with _lock:
            if not _pauses:
                _was_enabled = gc.isenabled()
            # Python looks for signals between calls, and there is none from here on.
            _pauses += 1
            _own_pauses.count += 1
            counted = True
            gc.disable()
        yield
    finally:
        if counted:
            with _lock:
                _pauses -= 1
                _own_pauses.count -= 1
                if not _pauses and _was_enabled:
                    gc.enable()


def _keep_this_thread_alone() -> None:
    """In a process that was forked there is one thread: no other one will end its blocks."""
    global _lock, _pauses, sweeping
    _lock, sweeping = Lock(), RLock()  # another thread may have held them
    open_blocks[:] = [
        block
        for mode in (silences, watches, traces, waits)
        for block in mode.get()
        if block.is_open
    ]
    was_paused, _pauses = _pauses, _own_pauses.count
    if was_paused and not _pauses and _was_enabled:
        gc.enable()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_keep_this_thread_alone)
