"""Several processes that train together: `train --coordinator ... --processes N --process-id I`.

JAX joins the processes and, where one is lost, aborts the others amid a page of its log. So the
command runs its work in a child process, and says in one line how that ended. Neither of the two
outlives the other. What process 0 listens to is neither authenticated nor encrypted.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from ..errors import InputError
from .terminal import INTERRUPTED, complain, interrupted, refuse, say

_WORKER = "MICROGRAD_LIKE_WORKER"  # a variable in the environment of the child
_START = "from micrograd_like.cli import main; sys.exit(main())"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `train` that say which of how many processes this is."""
    group = parser.add_argument_group(
        "several processes",
        "with --engine jax, on one machine or many: the same command on each. Who reaches the port "
        "can join, without a password: use a network that you trust",
    )
    where = "the address of process 0, which listens there and nowhere else"
    group.add_argument("--coordinator", metavar="HOST:PORT", help=where)
    group.add_argument("--processes", type=int, metavar="N", help="how many train together")
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
    if count < 1:
        raise InputError(f"--processes is at least 1, not {count}")
    if not 0 <= process < count:
        raise InputError(f"--process-id is one of 0 ... {count - 1}, not {process}")
    if arguments.timeout < 1:
        raise InputError(f"--timeout is at least 1, not {arguments.timeout}")
    if _WORKER in os.environ:
        return False
    if process == 0:
        try:  # JAX would share the port with another coordinator
            family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=1)[0]
            socket.create_server(address, family=family).close()
        except (OSError, UnicodeError) as error:
            problem, *_ = str(getattr(error, "strerror", error)).split(" (while")
            raise InputError(f"process 0 cannot listen at {coordinator}: {problem}") from None
    return True


def join(arguments: argparse.Namespace) -> None:
    """In a worker, join the others, and end when the supervisor does.

    Raises InputError where they are to be of another number.
    """
    if arguments.coordinator is None:
        return
    from ..compiler import xla

    xla.check()
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    count, process = arguments.processes, arguments.process_id
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # JAX's waiting hears no Python handler
    xla.join(arguments.coordinator, count, process, arguments.timeout)
    print(f"process {process} of {count} joined at {arguments.coordinator}", flush=True)
    xla.agree({"--processes": count})
    signal.signal(signal.SIGINT, handler)


def leave(status: int) -> None:
    """End a worker at once, which would wait for the others at the door; do nothing elsewhere."""
    if _WORKER in os.environ:
        if status:
            time.sleep(1.0)  # with process 0 go all others, who may have the same to say
        os._exit(status)


def supervise(argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run the command in a child, and say in one line what went wrong there; the exit status."""
    joined, start = False, time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            # Neither -m nor a bare -c: they import what lies in the current folder first.
            [sys.executable, "-P", "-c", f"import sys; sys.path = {sys.path}; {_START}", *argv],
            env={**os.environ, _WORKER: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C comes from here, once
        )
        signal.signal(signal.SIGINT, lambda *_: child.send_signal(signal.SIGINT))
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith("[Gloo]"):
                joined = True  # which is the first that the child says
                say(line.rstrip("\n"))
        status = child.wait()
        log.seek(0)
        logged = log.read().splitlines()
    if status in (-signal.SIGINT, INTERRUPTED):
        return interrupted()
    said = [line for line in logged if line.startswith("micrograd-like: ")]
    if status and not said and any(line.startswith("Traceback") for line in logged):
        said = logged  # a failure of ours
    where = f"the coordinator at {arguments.coordinator}"
    if said:
        complain("\n".join(said))
    elif status and joined:
        return refuse(f"process {arguments.process_id} has lost {where}, or another process")
    elif status:
        waited = time.monotonic() - start >= arguments.timeout
        how = f"waited {arguments.timeout} s for" if waited else "was turned away by"
        return refuse(
            f"process {arguments.process_id} {how} {where} and all {arguments.processes} processes:"
            " start process 0 there, and each other once, with the same --processes"
        )
    return status if status >= 0 else 2  # JAX aborts who lingers when the coordinator is gone


def _end_with_supervisor() -> None:
    """Its end closes the pipe that is this process's stdin."""
    while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold at the end
        pass
    os._exit(2)
