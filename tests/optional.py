"""Packages that tests use and can do without: where one is absent, what needs it is skipped."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest


class _Absent:
    """Stands for a package: a test that calls anything of it is skipped."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **keywords: Any) -> None:
        pytest.skip(self._reason)


def _optional(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        return _Absent(f"needs {package}, which comes with the extra `{extra}`")


np = _optional("numpy", "compile")
mpmath = _optional("mpmath", "test")
mp = mpmath.mp


def cases(make: Callable[[], list[Any]], names: int = 1) -> list[Any]:
    """The parameters that `make` gives, each of so many names, or one that is skipped for them."""
    try:
        return make()
    except pytest.skip.Exception as skipped:
        marks = pytest.mark.skip(reason=str(skipped.msg))
        return [pytest.param(*[None] * names, id="absent", marks=marks)]
