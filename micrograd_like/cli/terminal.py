"""What a command prints: whole lines, on streams that may be closed, full, or read by nobody."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from ..words import in_ascii, printable

INTERRUPTED = 130  # as shells have it: 128 and SIGINT's 2


def open_streams() -> None:
    """Make stdout and stderr take any text, also where whoever started this closed them (`>&-`).

    Files and pipes are in UTF-8; a terminal shows ? for what it can't.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors=_IN_ASCII)


def _signs(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have (a handler of codecs)."""
    assert isinstance(error, UnicodeEncodeError)
    known = in_ascii(error.object[error.start : error.end])
    return known.encode("ascii", "replace").decode(), error.end


_IN_ASCII = "micrograd_like.in_ascii"
codecs.register_error(_IN_ASCII, _signs)


def say(line: str) -> None:
    """Print a line of progress; the work goes on when nobody reads it."""
    try:
        print(printable(line), flush=True)
    except BrokenPipeError:
        drop(sys.stdout)


def csv_text(*rows: Iterable[Any]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def refuse(message: str) -> int:
    """Print the message in one line on stderr; returns the exit status."""
    complain(f"micrograd-like: {printable(' '.join(message.split()))}")
    return 2


def interrupted() -> int:
    """Say so in one line on stderr; returns the exit status."""
    complain("micrograd-like: interrupted")
    return INTERRUPTED


def complain(text: str) -> None:
    """Print on stderr; where that is full or gone the exit status has to do."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Whoever read it has gone (`| head`), or it is full: write no more there, nor at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
