"""Settings that every test shares, skips, and the fixture that lends a test rows of its own."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from micrograd_like import Op, detect_anomaly, modes, ops
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
def pytest_collect_file() -> Generator[None, Any, list[Any]]:
    """Tests are no doctests: those skip a file that cannot be imported, and it fails no more."""
    return [found for found in (yield) if type(found) is pytest.Module]


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: the collector, which runs often, skips them from now."""
    gc.freeze()


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


@pytest.fixture(autouse=True)
def modes_end() -> Iterator[None]:
    """What a test leaves in force makes that one fail, not the thousands after it."""
    yield
    left = [block.entry for block in modes.open_blocks]
    for mode in (modes.no_grad, modes.tracing, modes.waiting, detect_anomaly):
        mode.reopen(())
    modes.open_blocks.clear()
    assert (left, gc.isenabled()) == ([], True)


@pytest.fixture
def made_up() -> Iterator[Callable[..., Op]]:
    """`Op`, whose rows leave the table again after the test."""
    before = dict(ops.TABLE)
    yield Op
    ops.TABLE.clear()
    ops.TABLE.update(before)


@pytest.fixture
def typeset(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a page of LaTeX by pdflatex, with nothing wrong or too wide in it."""
    if not shutil.which("pdflatex"):
        if os.environ.get("REQUIRE_LATEX") == "1":
            pytest.fail("REQUIRE_LATEX=1, and pdflatex is not installed")
        pytest.skip("pdflatex is not installed")

    def made(body: str, width: int = 50) -> Path:
        page = tmp_path / "page.tex"
        page.write_text(
            r"\documentclass{article}\usepackage{amsmath}"
            rf"\usepackage[paperwidth={width}cm,paperheight=250cm,margin=1cm]{{geometry}}"
            rf"\begin{{document}}{body}\end{{document}}",
            encoding="utf-8",
        )
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", page.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
        assert "Overfull" not in log
        return page.with_suffix(".pdf")

    return made


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _missing(reason: str) -> Any:
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"REQUIRE_BROWSER is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """A browser. Its tests are skipped without one, unless REQUIRE_BROWSER is set, as in CI."""
    try:
        from selenium import webdriver
    except ImportError:
        _missing("selenium is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:  # selenium would look for them in the network
        _missing("no chromium with its chromedriver is on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=chromedriver)
    chrome = webdriver.Chrome(options=options, service=service)
    chrome.set_window_size(1280, 800)
    yield chrome
    chrome.quit()
