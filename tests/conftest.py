"""Settings that every test shares, skips, and the fixture that lends a test rows of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import pytest
from hypothesis import HealthCheck, settings

from micrograd_like import Op, ops
from micrograd_like.errors import MissingExtraError

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


# Shells start jobs in the background with Ctrl-C ignored, and its tests would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Skip a test that the package refuses for want of an extra, if it truly is not installed."""
    try:
        return (yield)
    except MissingExtraError as error:
        try:
            version(error.package)
        except PackageNotFoundError:
            pytest.skip(str(error))
        raise


@pytest.fixture
def made_up() -> Iterator[Callable[..., Op]]:
    """`Op`, whose rows leave the table again after the test."""
    before = dict(ops.TABLE)
    yield Op
    ops.TABLE.clear()
    ops.TABLE.update(before)
