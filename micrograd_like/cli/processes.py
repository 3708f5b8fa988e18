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

from ..errors import InputError
from .terminal import complain, refuse

_WORKER = "MICROGRAD_LIKE_WORKER"  # a variable in the environment of the child


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `train` that say which of how many processes this is."""
    group = parser.add_argument_group(
        "several processes", "with --engine jax, on one machine or many: the same command on each"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--processes", type=int, metavar="N")
    which, wait = "0 ... N - 1; 0 writes the files", "to wait for one another"
    group.add_argument("--process-id", type=int, metavar="I", help=which)
    group.add_argument("--timeout", type=int, default=60, metavar="SECONDS", help=wait)


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether this is a command for several processes, and not the worker of one.

    Raises InputError for options that do not go together.
    """
    names = ("coordinator", "processes", "process_id")
    coordinator, count, process = given = [vars(arguments).get(name) for name in names]
    if given == [None, None, None]:
        return False
    if coordinator is None or count is None or process is None or arguments.engine != "jax":
        raise InputError(
            "several processes need --engine jax, --coordinator, --processes and --process-id"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator is HOST:PORT, not {coordinator!r}")
    if not 0 <= process < count:
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
    print(f"process {process} of {count} joined at {arguments.coordinator}", flush=True)


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
        signal.signal(signal.SIGINT, lambda *_: child.send_signal(signal.SIGINT))
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith("[Gloo]"):
                joined = True  # which is the first that the child says
                print(line, end="", flush=True)
        status = child.wait()
        log.seek(0)
        logged = log.read().splitlines()
    said = [line for line in logged if line.startswith("micrograd-like: ")]
    if status and not said and any(line.startswith("Traceback") for line in logged):
        said = logged  # a failure of ours
    if said:
        complain("\n".join(said))
    elif status:
        lost = f"has lost the coordinator at {arguments.coordinator}, or another process"
        missed = (
            f"waited {arguments.timeout} s for the coordinator at {arguments.coordinator} and all "
            f"{arguments.processes} processes: start process 0 there, and each other once"
        )
        return refuse(f"process {arguments.process_id} {lost if joined else missed}")
    return status


def _end_with_supervisor() -> None:
    """Its end closes the pipe that is this process's stdin."""
    while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold at the end
        pass
    os._exit(2)
