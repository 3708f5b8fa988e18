"""Settings that every test shares, and the fixture that lends a test rows of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from micrograd_like import Op, ops

collect_ignore = ["benchmarks", "mutation.py"]  # scripts

# No deadlines: a test that fails when the machine is busy proves nothing. In CI every run draws
# the same examples, elsewhere each run draws new ones.
settings.register_profile(
    "micrograd_like",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("micrograd_like")


@pytest.fixture
def made_up() -> Iterator[Callable[..., Op]]:
    """`Op`, whose rows leave the table again after the test."""
    before = dict(ops.TABLE)
    yield Op
    ops.TABLE.clear()
    ops.TABLE.update(before)
