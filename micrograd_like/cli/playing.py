"""The command `play`: a page in which a network learns a table before one's eyes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .. import nn
from ..errors import InputError
from ..numerics import plain
from ..optim import Adam
from ..words import printable
from . import learning
from .terminal import say

_PAGE = Path("play.html")
_MARK = b'<meta name="generator" content="micrograd-like play">'  # of pages; see the template


def add_command(commands: Any) -> None:
    """Add the parser of the command to the subparsers of the whole."""
    about = "write a page in which a network learns: run it, change it, see what follows"
    parser = commands.add_parser("play", help=about, description=f"{about.capitalize()}.")
    parser.set_defaults(run=_play)
    what = f"{', '.join(learning.PLANES)}, or a CSV file whose label is a class"
    parser.add_argument("data", metavar="DATA", help=what)
    learning.add_table_options(parser)
    hidden = "widths of the hidden layers (default: 8,8)"
    parser.add_argument(
        "--hidden", type=learning.widths, default=[8, 8], metavar="N,N", help=hidden
    )
    learning.add_activation(parser)
    parser.add_argument("--lr", type=float, default=0.03, help="Adam's step size (default: 0.03)")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="L2 (default: 0)")
    learning.add_sizes(parser, batch_size=10)
    parser.add_argument("-o", "--out", type=Path, help=f"the page (default: {_PAGE})")


def _play(arguments: argparse.Namespace) -> None:
    from ..training.playing import play  # with the views, which other commands do not load

    if arguments.out is None:
        arguments.out = _PAGE
        if _PAGE.exists() and _MARK not in _PAGE.read_bytes()[:1000]:
            raise InputError(f"{_PAGE} is there, and play did not write it: name the page with -o")
    if arguments.out.suffix.lower() not in (".html", ".htm"):
        name = printable(str(arguments.out))
        raise InputError(f"{name} is no name for a page: let it end in .html")
    both = os.path.exists(arguments.data) and arguments.out.exists()
    if both and arguments.out.samefile(arguments.data):
        raise InputError(f"{arguments.out} is the data: name another page with -o")
    arguments.regression = None if arguments.data in learning.PLANES else False  # classes
    data, *_ = learning.prepared(arguments, learning.PLANES)
    for note in data.notes:
        say(note)
    inputs = [
        f"{name} = {text}" if text else name
        for name in data.features
        for text in data.texts.get(name, [""])
    ]
    widths = [*arguments.hidden, len(data.classes)]
    activation = arguments.activation or "tanh"
    model = nn.MLP(len(inputs), widths, activation, seed=arguments.seed)
    page = play(
        model,
        data.scaled(),
        data.y,
        optimizer=Adam(model.parameters(), arguments.lr, weight_decay=arguments.weight_decay),
        batch_size=arguments.batch_size,
        test_fraction=arguments.test_fraction,
        seed=arguments.seed,
        features=inputs,
        classes=data.classes,
        shift=plain(data.shift),
        scale=plain(data.scale),
        title=f"{data.name}: a network of {len(model.parameters())} Values learns",
    )
    page.save(arguments.out)
    say(f"wrote {arguments.out}: open it in a browser")
