"""Several processes that train together: `train --coordinator ... --processes N --process-id I`.

JAX joins the processes and, where one is lost, aborts the others amid a page of its log. So the
command runs its work in a child process, and says in one line how that ended. Neither of the two
outlives the other.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import InputError
from .terminal import complain, refuse

# The name of a variable in the environment of the child.
_WORKER = "MICROGRAD_LIKE_WORKER"


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "several processes", "with --engine jax, on one machine or many: the same command on each"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--processes", type=int, metavar="N")
    group.add_argument(
        "--process-id", type=int, metavar="I", help="0 ... N - 1; 0 writes the files"
    )
    group.add_argument(
        "--timeout", type=int, default=60, metavar="SECONDS", help="to wait for one another"
    )


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether this is a command for several processes, and not the worker of one.

    Raises InputError for options that do not go together.
    """
    names = ("coordinator", "processes", "process_id")
    given: list[Any] = [getattr(arguments, name, None) for name in names]
    if given == [None, None, None]:
        return False
    coordinator, count, process = given
    if None in given or arguments.engine != "jax":
        raise InputError(
            "several processes need --engine jax, --coordinator, --processes and --process-id"
        )
    host, _, port = str(coordinator).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator is HOST:PORT, not {coordinator!r}")
    if count < 1 or not 0 <= process < count:
        raise InputError(f"--process-id is one of 0 ... {count - 1}, not {process}")
    if arguments.timeout < 1:
        raise InputError(f"--timeout is at least 1, not {arguments.timeout}")
    return _WORKER not in os.environ


def join(arguments: argparse.Namespace) -> None:
    """In a worker, join the others, and end when the supervisor does."""
    if arguments.coordinator is None:
        return
    from ..compiler import xla

    xla.check()
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    count, process = arguments.processes, arguments.process_id
    xla.join(arguments.coordinator, count, process, arguments.timeout)
    print(f"{_joined(arguments)} at {arguments.coordinator}", flush=True)


def leave() -> NoReturn:
    """End this process at once: a lost one would be waited for at the door."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def supervise(argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run the command in a child, and say in one line what went wrong there; the exit status."""
    joined = False
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "micrograd_like", *argv],
            env={**os.environ, _WORKER: "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C comes from here, once
        )
        assert child.stdout is not None
        lines = iter(child.stdout)
        while True:
            try:
                for line in lines:
                    joined = joined or line.startswith(_joined(arguments))
                    if not line.startswith("[Gloo]"):
                        print(line, end="", flush=True)
                status = child.wait()
                break
            except KeyboardInterrupt:
                child.send_signal(signal.SIGINT)
        log.seek(0)
        logged = log.read().splitlines()
    said = [line for line in logged if line.startswith("micrograd-like: ")]
    if status and not said and any(line.startswith("Traceback") for line in logged):
        said = logged  # a failure of ours
    elif status and not said:
        who, where = f"process {arguments.process_id}", arguments.coordinator
        if joined:
            return refuse(f"{who} has lost the coordinator at {where}, or another process")
        return refuse(
            f"{who} waited {arguments.timeout} s for the coordinator at {where} and all "
            f"{arguments.processes} processes: start process 0 there, and each other once"
        )
    if said:
        complain("\n".join(said))
    return status


def _joined(arguments: argparse.Namespace) -> str:
    return f"process {arguments.process_id} of {arguments.processes} joined"


def _end_with_supervisor() -> None:
    """Its end closes the pipe that is this process's stdin."""
    while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold at the end
        pass
    os._exit(2)
