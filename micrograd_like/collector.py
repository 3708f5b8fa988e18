"""Python's cyclic collector, paused while many graphs are built: they have no cycles to find."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pauses = 0
_was_enabled = True
_pause_lock = threading.Lock()


@contextmanager
def paused() -> Iterator[None]:
    """No cyclic garbage collection: graphs have no cycles, and looking for some takes a third.

    Threads may be in here together; the last one out restores what the first one found.
    """
    global _pauses, _was_enabled
    counted = False
    try:
        with _pause_lock:
            if not _pauses:
                _was_enabled = gc.isenabled()
            _pauses += 1
            counted = True  # without a call in between, where Ctrl-C could come
            gc.disable()
        yield
    finally:
        if counted:
            with _pause_lock:
                _pauses -= 1
                if not _pauses and _was_enabled:
                    gc.enable()
