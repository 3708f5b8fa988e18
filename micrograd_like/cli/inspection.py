"""The commands `eval`, `draw`, `step` and `derive`: one expression, looked at from inside.

What `--json` prints is strict JSON. Infinities and NaN, which JSON lacks, are the strings "inf",
"-inf" and "nan", of which Python's float() makes numbers again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..engine import Value, topological_order
from ..errors import InputError
from ..views.algebra import formula
from ..views.names import names
from ..words import display_width, printable
from .expressions import parse

COMMANDS = ("eval", "draw", "step", "derive")
_FLAGS = {"-h", "--help", "--json"}
_WITH_ARGUMENT = {"-o", "--out", "--direction", "--wrt"}


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands to the subparsers of the whole."""
    evaluate = _add(
        commands, "eval", _eval, "compute an expression and its gradients, node by node"
    )
    draw = _add(commands, "draw", _draw, "draw the graph of an expression, with gradients")
    step = _add(commands, "step", _step, "go through both passes of an expression, step by step")
    derive = _add(commands, "derive", _derive, "derive the gradients of an expression, by hand")
    derive.add_argument(
        "--wrt", metavar="NAMES", help="what to derive by, as in w1,w2 (default: all its names)"
    )
    derive.add_argument("--latex", action="store_true", help="write LaTeX (default: text)")
    for parser, what in (
        (draw, "the picture to write, .svg, .png, .pdf or .dot (default: SVG on stdout)"),
        (step, "the HTML page to write, which plays the steps (default: text on stdout)"),
    ):
        parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=what)
    draw.add_argument(
        "--direction", default="LR", choices=("LR", "TB"), help="left to right, or top to bottom"
    )
    for parser, what in ((evaluate, "the table"), (draw, "the table of eval"), (step, "the steps")):
        parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        usage='%(prog)s [options] "tanh(w*x + b)" w=-3 x=2 b=6.88',
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "expression",
        metavar="EXPRESSION",
        help="numbers, names, + - * / **, parentheses, and the table's functions",
    )
    parser.add_argument(
        "variables",
        metavar="NAME=NUMBER",
        nargs="*",
        default=[],
        help="a value for each name in it",
    )
    return parser


def options_first(argv: Sequence[str]) -> list[str]:
    """The arguments of such a command with the options first, then `--` and all the others.

    argparse takes an expression such as -x*2 for options, and wants what is no option in one piece.
    """
    command, *arguments = argv
    options: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += rest
        elif argument in _WITH_ARGUMENT:
            options += [argument, *_next(rest)]
        elif argument in _FLAGS or re.fullmatch(r"--[a-z-]+(=.*)?", argument, re.DOTALL):
            options.append(argument)
        else:
            others.append(argument)
    return [command, *options, *(["--", *others] if others else [])]


def _next(items: Iterator[str]) -> list[str]:
    """The next item, if there is one."""
    return list(islice(items, 1))


def _graph(arguments: argparse.Namespace) -> tuple[Value, dict[str, Value]]:
    parsed = parse(arguments.expression)
    return parsed.build(_numbers(arguments.variables))


def _numbers(assignments: Iterable[str]) -> dict[str, float]:
    """The numbers by their names. Raises InputError."""
    numbers: dict[str, float] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = normalize("NFKC", name.strip())
        if not equals or not name.isidentifier():
            raise InputError(
                f"{assignment!r:.80} is not name=NUMBER, as the arguments after the expression are"
            )
        try:
            number = float(text)
        except ValueError:
            raise InputError(f"{name}={text[:80]}: {text[:80]!r} is not a number") from None
        if not math.isfinite(number):
            raise InputError(f"{name}={text[:80]}: a finite number is needed")
        if name in numbers:
            raise InputError(f"{name} is given twice")
        numbers[name] = number
    return numbers


def _eval(arguments: argparse.Namespace) -> int:
    root, leaves = _graph(arguments)
    root.backward()
    if arguments.json:
        _print_json(_report(arguments, root, leaves))
    else:
        rows = _table(root) if leaves else []
        _print("\n".join([*rows, f"value = {root.data!r}"]))
    return 0


def _draw(arguments: argparse.Namespace) -> int:
    from ..views.drawing import draw

    root, leaves = _graph(arguments)
    root.backward()
    drawing = draw(root, direction=arguments.direction)
    _write(arguments, drawing.save)
    if arguments.json:
        _print_json({**_report(arguments, root, leaves), **_written(arguments)})
    elif not arguments.out:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as the SVG says of itself
        _print(drawing.svg.rstrip("\n"))
    return 0


def _step(arguments: argparse.Namespace) -> int:
    from ..views.stepping import player, steps

    if arguments.out and arguments.out.suffix.lower() in (".svg", ".png", ".pdf", ".dot", ".gv"):
        raise InputError(f"step writes an HTML page, not {arguments.out.suffix}: use draw for that")
    root, _ = _graph(arguments)
    _write(arguments, lambda path: player(root).save(path))
    if arguments.json:
        events = [
            {
                "phase": event.phase,
                "name": event.name,
                "formula": event.formula,
                "before": _jsonable(event.before),
                "after": _jsonable(event.after),
            }
            for event in steps(root)
        ]
        about = {"expression": arguments.expression, "value": _jsonable(root.data)}
        _print_json({**about, "steps": events, **_written(arguments)})
    elif not arguments.out:
        _print(str(steps(root)))
    return 0


def _derive(arguments: argparse.Namespace) -> int:
    """Print the derivation, with numbers below the symbols if the variables have values."""
    from ..views.derivation import derive

    parsed = parse(arguments.expression)
    if not parsed.names:
        raise InputError("the expression has no names to derive by")
    wrt = parsed.names
    if arguments.wrt is not None:
        wrt = tuple(normalize("NFKC", name.strip()) for name in arguments.wrt.split(","))
    unknown = [name for name in wrt if name not in parsed.names]
    if unknown:
        known = ", ".join(parsed.names)
        raise InputError(f"--wrt {unknown[0]!r:.80} is not in the expression: it has {known:.200}")
    numbers = _numbers(arguments.variables)
    # Symbols need no numbers. NaN is in the domain of all operations.
    root, leaves = parsed.build(numbers or dict.fromkeys(parsed.names, math.nan))
    derivation = derive(root, [leaves[name] for name in wrt], numbers=bool(numbers))
    _print(derivation.latex if arguments.latex else derivation.text)
    return 0


def _write(arguments: argparse.Namespace, save: Callable[[Path], object]) -> None:
    if arguments.out:
        save(arguments.out)
        if not arguments.json:
            _print(f"wrote {printable(str(arguments.out))}")


def _written(arguments: argparse.Namespace) -> dict[str, str | None]:
    return {"written": str(arguments.out) if arguments.out else None}


def _table(root: Value) -> list[str]:
    """The nodes as lines, parents first: name, formula, value and gradient."""
    order = topological_order(root)
    name_of = names(order)
    rows = [("node", "formula", "value", "gradient")]
    rows += [(name_of[v], formula(v, name_of), repr(v.data), repr(v.grad)) for v in order]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return [
        f"{row[0]}{' ' * (widths[0] - display_width(row[0]))}  "
        f"{row[1]}{' ' * (widths[1] - display_width(row[1]))}  "
        f"{row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}"
        for row in rows
    ]


def _report(
    arguments: argparse.Namespace, root: Value, leaves: dict[str, Value]
) -> dict[str, object]:
    order = topological_order(root)
    name_of = names(order)
    return {
        "expression": arguments.expression,
        "value": _jsonable(root.data),
        "gradients": {name: _jsonable(leaf.grad) for name, leaf in leaves.items()},
        "nodes": [
            {
                "name": name_of[node],
                "op": node.op.name if node.op else None,
                "formula": formula(node, name_of) or None,
                "value": _jsonable(node.data),
                "gradient": _jsonable(node.grad),
                "operands": [
                    name_of[operand] if isinstance(operand, Value) else _jsonable(operand)
                    for operand in node.operands
                ],
            }
            for node in order
        ],
    }


def _jsonable(x: float | None) -> float | str | None:
    return x if x is None or math.isfinite(x) else str(x)


def _print_json(content: dict[str, object]) -> None:
    _print(json.dumps(content, indent=2, allow_nan=False))


def _print(text: str) -> None:
    """Print, and flush, so that a reader who has gone is noticed before the exit status is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
