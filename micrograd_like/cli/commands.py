"""The command line as a whole: its parser, and `main`, in which every refusal ends.

A refusal is one line on stderr and exit status 2. Below that of an expression stand the expression
and a caret under the place. Ctrl-C is status 130, or 0 where `train` has a whole epoch to leave. No
files are left but those that were whole when training or writing failed, such as the model of the
last whole epoch. Neither files nor arguments can send control characters to a terminal: in
messages, and in tables on a terminal, � stands for them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import MicrogradError
from ..words import meant
from . import inspection, learning, playing, processes
from .expressions import ExpressionError
from .terminal import complain, drop, interrupted, open_streams, refuse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    open_streams()
    status = _run(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        drop(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            status = status or refuse(f"stdout: {error.strerror or error}")
    if status:
        processes.leave(status)
    return status


def _run(argv: Sequence[str]) -> int:
    try:
        arguments = _arguments(argv)
        if processes.is_wanted(arguments):
            return processes.supervise(argv, arguments)
        arguments.run(arguments)
        return 0
    except SystemExit as exit_:  # of --help, or of a refused option
        return int(exit_.code or 0)
    except ExpressionError as error:
        status = refuse(error.message)
        complain(str(error).partition("\n")[2])
        return status
    except MicrogradError as error:
        return refuse(str(error))
    except BrokenPipeError:
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        return interrupted()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += meant(choice[1], re.findall(r"[\w-]+", choice[2]))
        sys.exit(refuse(f"{message} (micrograd-like --help tells more)"))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="micrograd-like",
        description="A scalar autograd engine: without a command, a network learns two moons.",
        epilog="Exit status: 0 done; 2 refused, with the reason on stderr; 130 interrupted by "
        "Ctrl-C, but 0 where train has finished an epoch, whose model it writes. Of several "
        "processes only process 0 does so; those that lose another end with 2.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=learning.show)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    learning.add_commands(commands)
    playing.add_command(commands)
    inspection.add_commands(commands)
    arguments, others = parser.parse_known_args(argv)
    if "expression" in arguments:
        inspection.take_expression(arguments, others, parser)
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return arguments
