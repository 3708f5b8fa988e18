"""The other engines: a private virtual environment that holds them, and a process for each engine.

Every engine, ours included, runs in a process of its own, which waits for orders. So the rounds of
a benchmark can alternate between engines while none inherits another's heap, and a crash (one peer
is a C extension without checks) costs that peer's row only.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS, IN_PYTHON, OWN_VALUE = "micrograd_like", "in Python", "own Value"

INSTALL_LIMIT = 120  # seconds for one peer
WORK_LIMIT = 180  # and for one order


@dataclass(frozen=True)
class Peer:
    """An engine to compare with, at the version that the numbers are about."""

    name: str
    version: str
    # A peer written in Rust is taken as a wheel or not at all: to build one needs a toolchain, its
    # crates from the network, and minutes.
    wheel_only: bool = False


PEERS = (
    Peer("micrograd", "0.1.0"),
    Peer("minigrad", "0.0.6"),
    Peer("xad", "1.5.2", wheel_only=True),
    Peer("oxigrad", "0.3.2", wheel_only=True),
    Peer("micrograd-rust", "0.1.0", wheel_only=True),
)


def default_venv() -> Path:
    """Where the peers are kept between runs: the user's cache, a directory for each Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "micrograd_like-benchmarks" / str(sys.implementation.cache_tag)


def install(venv: Path) -> tuple[str, dict[str, str]]:
    """The Python of `venv`, made if need be, and by each missing peer's name why it is missing."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        failure = _run([sys.executable, "-m", "venv", str(venv)])
        if failure:
            return sys.executable, dict.fromkeys((peer.name for peer in PEERS), failure)
    missing = {}
    for peer in PEERS:
        found = f"assert metadata.version({peer.name!r}) == {peer.version!r}"
        if _run([str(python), "-c", f"from importlib import metadata; {found}"]):
            order = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
            if peer.wheel_only:
                order += ["--only-binary", ":all:"]
            failure = _run([*order, f"{peer.name}=={peer.version}"])
            if failure:
                missing[peer.name] = failure
    return str(python), missing


def _run(order: list[str]) -> str:
    """Run a command. The result is empty, or the last line of what it complained about."""
    try:
        done = subprocess.run(
            order, capture_output=True, text=True, timeout=INSTALL_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


class Failure(Exception):  # noqa: N818 - a result to print, like the others
    """An engine could not do what it was told to; the message says why."""


class Worker:
    """An engine in a process of its own, on a thread with a stack of `stack` bytes.

    One that has died is started again by the next order.
    """

    def __init__(self, python: str, engine: str, stack: int = 512 << 20) -> None:
        self.engine = engine
        self._command = [python, str(HERE / "workloads.py"), engine, str(stack)]
        self._process: subprocess.Popen[str] | None = None

    def order(self, workload: str, size: int, collector: bool) -> dict[str, Any]:
        """The answer of one run of `workload`: its `figures` and its `check`. Raises Failure."""
        process = self._process or subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # failures come back in the answer, with their reason
            text=True,
            env=environment() | ({"MICROGRAD_LIKE_PURE": "1"} if self.engine == IN_PYTHON else {}),
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        start = monotonic()
        alarm = threading.Timer(WORK_LIMIT, process.kill)
        alarm.start()
        try:
            process.stdin.write(json.dumps([workload, size, collector]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it died before it could read the order
            line = ""
        finally:
            alarm.cancel()
        if not line:
            self.stop()
            if monotonic() - start >= WORK_LIMIT:
                raise Failure(f"not done after {WORK_LIMIT} s")
            raise Failure(f"crashed with exit status {process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise Failure(answer["failure"])
        return answer

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            # Its pipes are closed, at which it leaves; one that is gone cannot be written to.
            with contextlib.suppress(BrokenPipeError), self._process:
                pass
            self._process.wait()
            self._process = None


def environment() -> dict[str, str]:
    """The environment of the processes: the library comes from this checkout, bytecode is kept."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(ROOT)}
