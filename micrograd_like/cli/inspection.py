"""The commands `eval`, `draw`, `step` and `derive`: one expression, looked at from inside.

What `--json` prints is strict JSON. Infinities and NaN, which JSON lacks, are the strings "inf",
"-inf" and "nan", of which Python's float() makes numbers again. The views are imported by the
commands that need them, since loading them takes half as long as loading all else.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..engine import Value, topological_order
from ..errors import InputError
from ..words import display_width, printable, several
from .expressions import parse


def add_commands(commands: Any) -> None:
    """Add the parsers of the commands to the subparsers of the whole."""
    parsers: list[argparse.ArgumentParser] = []
    for name, run, what in (
        ("eval", _eval, "compute an expression and its gradients, node by node"),
        ("draw", _draw, "draw the graph of an expression, with gradients"),
        ("step", _step, "go through both passes of an expression, step by step"),
        ("derive", _derive, "derive the gradients of an expression, by hand"),
    ):
        parser = commands.add_parser(
            name,
            help=what,
            usage='%(prog)s [options] "tanh(w*x + b)" w=-3 x=2 b=6.88',
            description="The expression has numbers, names, + - * / **, parentheses, and the "
            "table's functions. After it comes NAME=NUMBER for each name in it. If it begins with "
            "the letter of an option, as -h*x does, write -- before it.",
            allow_abbrev=False,
        )
        parser.set_defaults(run=run, expression=None)
        parsers.append(parser)
    evaluate, draw, step, derive = parsers
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


def take_expression(
    arguments: argparse.Namespace, words: list[str], parser: argparse.ArgumentParser
) -> None:
    """Take the words that argparse does not know for the expression and the values of its names.

    It is told of neither, since it takes an expression such as -x*2 for options, and wants all that
    is no option in one piece.
    """
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word, re.DOTALL):
            parser.error(f"unrecognized arguments: {word}")
    words = words[:end] + words[end + 1 :]
    if not words:
        parser.error("the following arguments are required: EXPRESSION")
    arguments.expression, *arguments.values = words


def _graph(arguments: argparse.Namespace) -> tuple[Value, dict[str, Value]]:
    return parse(arguments.expression).build(_numbers(arguments.values))


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
    report = _report(arguments, root, leaves)
    table = _table(report["nodes"]) if leaves else []
    return _answer(arguments, lambda: report, lambda: "\n".join([*table, f"value = {root.data!r}"]))


def _draw(arguments: argparse.Namespace) -> int:
    from ..views.drawing import draw

    root, leaves = _graph(arguments)
    root.backward()
    drawing = draw(root, direction=arguments.direction)

    def svg() -> str:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as the SVG says of itself
        return drawing.svg.rstrip("\n")

    return _answer(arguments, lambda: _report(arguments, root, leaves), svg, drawing.save)


def _step(arguments: argparse.Namespace) -> int:
    from ..views.pages import player
    from ..views.stepping import steps

    if arguments.out and arguments.out.suffix.lower() in (".svg", ".png", ".pdf", ".dot", ".gv"):
        raise InputError(f"step writes an HTML page, not {arguments.out.suffix}: use draw for that")
    root, _ = _graph(arguments)

    def report() -> dict[str, Any]:
        keys = ("phase", "name", "formula", "before", "after")
        events = [{key: getattr(event, key) for key in keys} for event in steps(root)]
        return {"expression": arguments.expression, "value": root.data, "steps": events}

    return _answer(
        arguments, report, lambda: str(steps(root)), lambda path: player(root).save(path)
    )


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
        known = several(parsed.names, 8)
        raise InputError(f"--wrt {unknown[0]!r:.80} is not in the expression: it has {known}")
    numbers = _numbers(arguments.values)
    # Symbols need no numbers. NaN is in the domain of all operations.
    root, leaves = parsed.build(numbers or dict.fromkeys(parsed.names, math.nan))
    derivation = derive(root, [leaves[name] for name in wrt], numbers=bool(numbers))
    print(derivation.latex if arguments.latex else derivation.text)
    return 0


def _answer(
    arguments: argparse.Namespace,
    report: Callable[[], dict[str, Any]],
    text: Callable[[], str],
    save: Callable[[Path], object] | None = None,
) -> int:
    """Save what `--out` asks for and print what `--json` asks for or, without either, the text."""
    path = arguments.out if save else None
    if save and path:
        save(path)
    if arguments.json:
        written = {"written": str(path) if path else None} if save else {}
        print(json.dumps(_strict(report() | written), indent=2, allow_nan=False))
    else:
        print(f"wrote {printable(str(path))}" if path else text())
    return 0


def _strict(x: Any) -> Any:
    """`x` with texts for the numbers that JSON lacks."""
    if isinstance(x, dict):
        return {key: _strict(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_strict(item) for item in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _report(arguments: argparse.Namespace, root: Value, leaves: dict[str, Value]) -> dict[str, Any]:
    """What `eval` tells of the expression and, parents first, of each node."""
    from ..views.algebra import formula
    from ..views.names import names

    order = topological_order(root)
    name_of = names(order)
    return {
        "expression": arguments.expression,
        "value": root.data,
        "gradients": {name: leaf.grad for name, leaf in leaves.items()},
        "nodes": [
            {
                "name": name_of[node],
                "op": node.op.name if node.op else None,
                "formula": formula(node, name_of) or None,
                "value": node.data,
                "gradient": node.grad,
                "operands": [name_of[x] if isinstance(x, Value) else x for x in node.operands],
            }
            for node in order
        ],
    }


def _table(nodes: list[dict[str, Any]]) -> list[str]:
    """The nodes of a report as lines of name, formula, value and gradient."""
    rows = [("node", "formula", "value", "gradient")]
    rows += [
        (node["name"], node["formula"] or "", repr(node["value"]), repr(node["gradient"]))
        for node in nodes
    ]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - display_width(x)) for x, width in zip(row, widths, strict=True)]
        name, how, value, gradient = row
        lines.append(f"{name}{gaps[0]}  {how}{gaps[1]}  {gaps[2]}{value}  {gaps[3]}{gradient}")
    return lines
