"""Modes: what is in force within a `with` block, such as `no_grad`, and the collector's pause."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Self

# A mode is in force where its context variable has entries, one for each block that is open there.
# `open_blocks` has one entry for each block that is open in any thread: while it is empty,
# operations look no further.
open_blocks: list[None] = []
silences: ContextVar[tuple[Any, ...]] = ContextVar("no_grad", default=())
watches: ContextVar[tuple[Any, ...]] = ContextVar("watch", default=())  # of `detect_anomaly`
_lock = Lock()


class Mode(ContextDecorator):
    """A context, or decorator, within which a context variable has one entry more."""

    _variable: ContextVar[tuple[Any, ...]]
    _entry: Any = True

    @classmethod
    def open_here(cls) -> tuple[Any, ...]:
        """The mode's entries in this thread or task."""
        return cls._variable.get()

    @classmethod
    def reopen(cls, entries: tuple[Any, ...]) -> None:
        """Set the entries. If Ctrl-C comes, they and `open_blocks` change both or neither."""
        with _lock:
            change = len(entries) - len(cls._variable.get())
            # Python looks for signals between calls: there is one call here, the last.
            if change > 0:
                open_blocks[:0] = [None] * change
            elif change < 0:
                del open_blocks[change:]
            cls._variable.set(entries)

    def __enter__(self) -> Self:
        before = self.open_here()
        try:
            self.reopen((*before, self._entry))
        except BaseException:  # Ctrl-C, say: without __enter__ there will be no __exit__
            self.reopen(before)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.reopen(self.open_here()[:-1])


class no_grad(Mode):  # noqa: N801 - the name PyTorch gave it
    """Within this context (or decorated function) results have no parents, as if made by hand.

    >>> from micrograd_like import Value
    >>> x = Value(3.0)
    >>> with no_grad():
    ...     (x * x).parents
    ()
    """

    _variable = silences


_pauses = 0
_was_enabled = True


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
            _pauses += 1
            counted = True  # without a call in between, where Ctrl-C could come
            gc.disable()
        yield
    finally:
        if counted:
            with _lock:
                _pauses -= 1
                if not _pauses and _was_enabled:
                    gc.enable()
