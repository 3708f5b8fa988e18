"""What arrays are called: names from the labels of the graph, safe to stand in a source.

Labels are any text, and a source is executed: every name here is an identifier of Python that is no
keyword, and that the sources use for nothing else.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product, zip_longest
from math import prod
from typing import TYPE_CHECKING

from ..engine import Value
from .tape import InputArray, word

if TYPE_CHECKING:
    from .form import Array, Statement


def input_arrays(labels: Sequence[str], names: set[str] | None = None) -> list[InputArray]:
    """Inputs as arrays, by their labels: w[0], w[1], ... are one, and so are a layer's weights.

    Labels that fill a grid of one or two indices make an array, and if they do so several times, as
    those of several layers may, several arrays; all others are in arrays of their own, and those
    without a label in one called x. None gets a name that is in `names`, to which theirs are added.
    """
    names = set() if names is None else names
    groups: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for i, label in enumerate(labels):
        stem, index = _split(label)
        groups.setdefault(stem, []).append((index, i))
    result: list[InputArray] = []
    for stem, members in groups.items():
        grids = _grids(members)
        for shape, numbers in grids:
            result.append((identifier(stem, names), shape, numbers))
        if grids:
            continue
        if stem == "":
            numbers = [i for _, i in members]
            shape = (len(numbers),) if len(numbers) > 1 else ()
            result.append((identifier("x", names), shape, numbers))
            continue
        for index, i in members:
            label = "_".join([stem, *map(str, index)])
            result.append((identifier(label, names), (), [i]))
    return result


def _grids(
    members: Sequence[tuple[tuple[int, ...], int]],
) -> list[tuple[tuple[int, ...], list[int]]]:
    """The grids that indices fill, each once: their shapes and members in order; or none."""
    copies: dict[tuple[int, ...], list[int]] = {}
    for index, i in members:
        copies.setdefault(index, []).append(i)
    axes = max(map(len, copies))
    shape = tuple(len(set(along)) for along in zip_longest(*copies))
    if axes not in (1, 2) or min(copies) != (0,) * axes or len(copies) != prod(shape):
        return []
    if len({len(numbers) for numbers in copies.values()}) > 1:
        return []
    shape = tuple(n for n in shape if n > 1)  # a row of weights, W3 say, is a vector
    every = zip(*[copies[index] for index in sorted(copies)], strict=True)
    return [(shape, list(numbers)) for numbers in every]


def single_names(arrays: Sequence[InputArray], count: int) -> list[str]:
    """A name for each of so many inputs: that of its array, with its place there."""
    names = dict.fromkeys(range(count), "")
    for name, shape, numbers in arrays:
        for i, place in zip(numbers, product(*map(range, shape)), strict=True):
            names[i] = "_".join([name, *map(str, place)])
    taken: set[str] = set()
    return [identifier(name, taken) for name in names.values()]


# The patterns below take time quadratic in a label's length.
_LONGEST_PATH = 1000
_INDEX = r"([0-9]{1,9})"


def _split(label: str) -> tuple[str, tuple[int, ...]]:
    """A label's stem and indices: W1 and (3, 1) for layers[0].neurons[3].w[1]."""
    if len(label) > _LONGEST_PATH:
        return label, ()
    pattern = rf"(?:(.*?)\.)??(?:layers\[{_INDEX}\]\.)?neurons\[{_INDEX}\]\.(\w+?)(?:\[{_INDEX}\])*"
    if "neurons" in label and (path := re.fullmatch(pattern, label)):
        above, layer, neuron, kind, _ = path.groups()
        last = re.findall(rf"\[{_INDEX}\]", label[path.start(4) :])
        stem = "W" if kind == "w" else kind
        if layer is not None:
            stem += str(int(layer) + 1)
        if above is not None:
            stem = f"{above}_{stem}"
        return stem, (int(neuron), *map(int, last))
    path = re.fullmatch(rf"(.*?)((?:\[{_INDEX}\])+)", label, re.DOTALL)
    if path:
        return path[1], tuple(map(int, re.findall(_INDEX, path[2])))
    path = re.fullmatch(rf"(.*?)(?:_|(?<![0-9])){_INDEX}", label, re.DOTALL)
    return (path[1], (int(path[2]),)) if path else (label, ())


# Names that the sources use for other things: constants, functions, results.
_RESERVED = re.compile(
    r"np|jnp|jax|dtype|len|float|values|examples|gradient|outputs|program|ones\d*|(eye|places)\d+|[ct]\d+(_\d+)*|.*_"
)


def identifier(stem: str, names: set[str]) -> str:
    """A name that Python accepts and that none of `names` is; it becomes one of them."""
    name = word(stem)
    if not name.isidentifier() or keyword.iskeyword(name) or _RESERVED.fullmatch(name):
        name = f"v_{name.strip('_')}"
        if _RESERVED.fullmatch(name):
            name = "v"
    base, count = name, 1
    while name in names:
        count += 1
        name = f"{base}_{count}"
    names.add(name)
    return name


class ResultNames:
    """Names for results: their labels; Z for a layer's sums, A for its activations, dZ for ∂/∂Z."""

    def __init__(
        self,
        inputs: Iterable[str],
        number_of: Mapping[Value, int],
        adjoint_of: Mapping[Value, int],
        part_of: Mapping[int, str],
    ) -> None:
        self.names = set(inputs)
        self.part_of = part_of  # what the user calls the inputs of a part of an array
        self.labels: dict[int, list[str]] = {}
        for node, number in number_of.items():
            if node.op is not None and node.label != "":
                self.labels.setdefault(number, []).append(node.label)
        # Of the number of a derivative, the numbers of what it is the derivative with respect to.
        self.primals: dict[int, list[tuple[int, int]]] = {}
        for order, (node, at) in enumerate(adjoint_of.items()):
            if (primal := number_of.get(node)) is not None:
                self.primals.setdefault(at, []).append((order, primal))

    def of(self, statement: Statement, array: Callable[[int], Array | None]) -> str:
        """The name of a statement's result.

        `array` says which array has a number of the tape, if one has it so far.
        """
        members = statement.result.members
        name = self._labelled(members) or self._derivative(members, array)
        if name or (name := self._layers(statement)):
            return identifier(name, self.names)
        return self.new()

    def new(self) -> str:
        """A name that says nothing."""
        name = f"t{len(self.names)}"
        self.names.add(name)
        return name

    def _layers(self, statement: Statement) -> str:
        """Z3 of a sum of products with W3 alone, and A3 of a function of Z3 alone."""
        factors = [v.array.name for t in statement.terms if t.kind == "matmul" for v in t.views]
        sources = [factor for factor in factors if re.fullmatch(r"\w*W\d+", factor)]
        if len(statement.args) == 1:
            sources = [v.array.name for v in statement.views if v.array.name.startswith("Z")]
        name = sources[0].translate({ord("W"): "Z", ord("Z"): "A"}) if len(sources) == 1 else ""
        return "" if name in self.names else name

    def _labelled(self, members: Sequence[int]) -> str:
        labels = {label for number in members for label in self.labels.get(number, ())}
        if len(members) > 1:
            labels = {_split(label)[0] for label in labels}
        return next(iter(labels)) if len(labels) == 1 else ""

    def _derivative(self, members: Sequence[int], array: Callable[[int], Array | None]) -> str:
        """D before the name of the array whose derivative this is, if it is that of one array."""
        pairs = sorted(pair for member in members for pair in self.primals.get(member, ()))
        if not pairs:
            return ""
        primal, count = Counter(array(number) for _, number in pairs).most_common(1)[0]
        parts = {self.part_of.get(number, "") for _, number in pairs}
        if len(parts) == 1 and (part := parts.pop()):
            return f"d{part}"
        return f"d{primal.name}" if primal and primal.name and count == len(members) else ""
