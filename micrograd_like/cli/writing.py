"""The GPT of lines of text: what `train` does with a file of names, and the command `sample`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import util
from pathlib import Path
from random import Random
from typing import Any

from .. import state
from ..errors import InputError, StateError
from ..training import datasets
from ..training.gpt import GPT
from ..words import printable, several
from . import processes, running
from .folder import Folder
from .terminal import say

# The options of `train` that are for lines of text: the sizes of a GPT, and what they are.
SIZES = {
    "layers": (1, "of attention and an MLP"),
    "embed": (16, "numbers a token is made of"),
    "heads": (4, "of attention in each layer"),
    "context": (16, "characters seen at once"),
}
BUILT_IN = {"names": datasets.names}
_INVENTED = 10  # texts to show after the training
_MANY = 100  # texts, for which a program saves what it takes to compile it


def add_options(train: argparse.ArgumentParser) -> None:
    """Add the options of the command `train` that are for lines of text alone."""
    group = train.add_argument_group(
        "lines of text", "a GPT of scalars learns them, a character at a time"
    )
    for name, (size, what) in SIZES.items():
        group.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} (default: {size})")


def add_command(commands: Any) -> None:
    """Add the parser of `sample` to the subparsers of the whole."""
    sample = commands.add_parser("sample", help="invent lines, such as names, by a trained GPT")
    sample.set_defaults(run=_sample)
    sample.add_argument("model", metavar="MODEL", help="a model.json that train wrote for lines")
    warmth = "below 1 likely characters become likelier; 0 takes the likeliest (default: 0.5)"
    sample.add_argument("--temperature", type=float, default=0.5, metavar="T", help=warmth)
    seed = "of what is drawn: the same seed invents the same lines (default: 0)"
    sample.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    count = "how many lines (default: 20)"
    sample.add_argument("--count", type=int, default=20, metavar="N", help=count)


def is_text(data: str) -> bool:
    """Whether the data of `train` are lines of text, and no table."""
    return data in BUILT_IN or data.lower().endswith(".txt")


def train(arguments: argparse.Namespace) -> None:
    """Learn the lines, and end with the loss of those that were held out."""
    compiled = "compiled" if util.find_spec("numpy") else "eager"
    sizes = {name: size for name, (size, _) in SIZES.items()}
    running.complete(arguments, **sizes, epochs=10, engine=compiled)
    built_in = BUILT_IN.get(arguments.data)
    lines = built_in() if built_in else datasets.read_lines(arguments.data)
    learn, held = datasets.split([0] * len(lines), arguments.test_fraction, arguments.seed)
    sizes = {name: getattr(arguments, name) for name in SIZES}
    model = GPT("".join(sorted(set("".join(lines)))), **sizes, seed=arguments.seed)
    name = Path(arguments.data).stem
    folder = Folder(arguments, name)
    say(
        f"{name}: {len(model.alphabet)} characters, "
        f"{len(learn)} lines to train on and {len(held)} to test on; "
        f"GPT of {several([f'{what} {n}' for what, n in sizes.items()], 4)}, "
        f"{len(model.parameters()):,} parameters"
    )
    cut = sum(len(line) > model.context for line in lines)
    if cut:
        say(f"{cut} lines are longer than --context {model.context}: they are learned up to there")
    documents = [model.tokens(line) for line in lines]
    history = running.fit(
        arguments,
        model,
        about(model),
        folder,
        [documents[i] for i in learn],
        validation=[documents[i] for i in held],
    )
    if not arguments.process_id:
        running.finish(folder, history)
        random = Random(arguments.seed)
        say("invented: " + ", ".join(model.invent(random, 0.5) for _ in range(_INVENTED)))
    say(f"test loss {history.validation_loss[-1]:.4f}")
    if history.interrupted:
        processes.leave(0)


def about(model: GPT) -> dict[str, dict[str, Any]]:
    """What `load` finds in the file, besides the parameters."""
    sizes = {name: getattr(model, name) for name in SIZES}
    return {"model": sizes, "gpt": {"alphabet": model.alphabet}}


def load(path: str | os.PathLike[str]) -> GPT:
    """The GPT in a file that `train` wrote. Raises StateError if it does not add up."""
    content = state.read_file(path)
    try:
        sizes = {name: content["model"][name] for name in SIZES}
        alphabet = content["gpt"]["alphabet"]
        if not isinstance(alphabet, str) or any(type(size) is not int for size in sizes.values()):
            raise InputError("its parts are of other types")
        # The counts must agree before a model of that size is built.
        d = sizes["embed"]
        count = (2 * (len(alphabet) + 1) + sizes["context"] + 12 * d * sizes["layers"]) * d
        if min(sizes.values()) < 1 or count != len(content["parameters"]):
            raise InputError("its parts do not fit together")
        model = GPT(alphabet, **sizes)
        model.load_state_dict(content["parameters"])
    except (LookupError, TypeError, ValueError):
        raise StateError(
            f"{path} holds no GPT whose parts fit together: sample needs a model.json that train "
            "wrote for lines of text"
        ) from None
    return model


def _sample(arguments: argparse.Namespace) -> None:
    if arguments.count < 1:
        raise InputError(f"--count is at least 1, not {arguments.count}")
    model, random, forward = load(arguments.model), Random(arguments.seed), None
    if arguments.count >= _MANY and util.find_spec("numpy"):
        from ..compiler import compile_forward

        forward = compile_forward(model.scores, model.weights, [model.end] * model.context)
    shown = printable if sys.stdout.isatty() else str  # a file has the characters as they are
    for _ in range(arguments.count):
        print(shown(model.invent(random, arguments.temperature, forward)), flush=True)
