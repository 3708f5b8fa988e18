"""The commands `eval`, `draw`, `step` and `derive`: one expression, looked at from inside.

The views are imported by the commands that need them, since loading them takes half as long as
loading all else.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unicodedata import normalize

from ..engine import topological_order
from ..errors import InputError
from ..state import finite
from ..words import fitting, printable, several
from .expressions import functions, parse


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
            description="The expression has numbers, names, + - * / % **, parentheses, and the "
            "functions below. After it comes NAME=NUMBER for each name in it, other than pi and "
            "e. If it begins with the letter of an option, as -h*x does, write -- before it.",
            epilog=f"Functions: {', '.join(sorted(functions()))}.",
            allow_abbrev=False,
        )
        parser.set_defaults(run=run, expression=None)
        parsers.append(parser)
    _, draw, step, derive = parsers
    picture = "the picture to write, .svg, .png, .pdf or .dot (default: SVG on stdout)"
    draw.add_argument("-o", "--out", type=Path, metavar="FILE", help=picture)
    draw.add_argument(
        "--direction", default="LR", choices=("LR", "TB"), help="right (the default) or down"
    )
    page = "the HTML page to write, which plays the steps (default: text on stdout)"
    step.add_argument("-o", "--out", type=Path, metavar="FILE", help=page)
    names = "what to derive by, as in w1,w2 (default: all its names)"
    derive.add_argument("--wrt", metavar="NAMES", help=names)
    derive.add_argument("--latex", action="store_true", help="write LaTeX (default: text)")


def take_expression(
    arguments: argparse.Namespace, words: list[str], parser: argparse.ArgumentParser
) -> None:
    """Take the words that argparse does not know for the expression and the values of its names.

    It is told of neither: it would take -x*2 for options, and wants all else in one piece.
    """
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word, re.DOTALL):
            parser.error(f"unrecognized arguments: {word}")
    words = words[:end] + words[end + 1 :]
    if not words:
        parser.error("the following arguments are required: EXPRESSION")
    arguments.expression, *arguments.values = words


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
        if name in numbers:
            raise InputError(f"{name} is given twice")
        try:
            numbers[name] = finite(text)
        except ValueError:
            raise InputError(f"{assignment[:80]}: a finite number is needed") from None
    return numbers


def _eval(arguments: argparse.Namespace) -> None:
    """Print a line for each node, parents first, and the value."""
    from ..views.algebra import formula
    from ..views.names import names

    root, leaves = parse(arguments.expression).build(_numbers(arguments.values))
    root.backward()
    order = topological_order(root, untaken=True)
    name_of = names(order)
    if leaves:
        formulas = fitting("\n".join(formula(x, name_of) for x in order)).split("\n")
        rows = [("node", "formula", "value", "gradient")]
        rows += [
            (name_of[x], how, str(x.data), str(x.grad))
            for x, how in zip(order, formulas, strict=True)
        ]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, how, value, gradient in rows:
            print(f"{name:{wide[0]}}  {how:{wide[1]}}  {value:>{wide[2]}}  {gradient:>{wide[3]}}")
    print(f"value = {root.data!r}")


def _draw(arguments: argparse.Namespace) -> None:
    from ..views.drawing import draw

    root, _ = parse(arguments.expression).build(_numbers(arguments.values))
    root.backward()
    drawing = draw(root, direction=arguments.direction)
    if arguments.out:
        drawing.save(arguments.out)
        print(f"wrote {printable(str(arguments.out))}")
    else:  # in ASCII, which is UTF-8, as the SVG says of itself, whatever the encoding of stdout
        print(drawing.svg.rstrip("\n").encode("ascii", "xmlcharrefreplace").decode())


def _step(arguments: argparse.Namespace) -> None:
    from ..views.pages import player
    from ..views.stepping import steps

    root, _ = parse(arguments.expression).build(_numbers(arguments.values))
    if arguments.out:
        if arguments.out.suffix.lower() not in (".html", ".htm"):
            name = printable(str(arguments.out))
            raise InputError(f"{name} is no name for a page: let it end in .html")
        player(root).save(arguments.out)
        print(f"wrote {printable(str(arguments.out))}")
    else:
        print(steps(root))


def _derive(arguments: argparse.Namespace) -> None:
    """Print the derivation, in symbols, whether the variables have values or not."""
    from ..views.derivation import derive

    parsed = parse(arguments.expression)
    numbers = _numbers(arguments.values)
    # Symbols need no numbers. NaN is in the domain of all operations.
    root, leaves = parsed.build(numbers or dict.fromkeys(parsed.names, math.nan))
    if not leaves:
        raise InputError("the expression has no names to derive by")
    names = leaves if arguments.wrt is None else arguments.wrt.split(",")
    wrt = [normalize("NFKC", name.strip()) for name in names]
    for name in wrt:
        if name not in leaves:
            known = several([*leaves], 8)
            raise InputError(f"--wrt {name!r:.80} is not in the expression: it has {known}")
    derivation = derive(root, [leaves[name] for name in wrt])
    print(derivation.latex if arguments.latex else derivation)
