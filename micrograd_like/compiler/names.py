"""What arrays are called: names from the labels of the graph, safe to stand in a source.

Labels are any text, and a source is executed: every name here is an identifier of Python that is no
keyword, and that the sources use for nothing else.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from ..engine import Value
from ..errors import OperandError
from .tape import word

if TYPE_CHECKING:
    from .form import Array, Statement

# The name of an array of inputs, its shape, and the numbers of the inputs in it.
InputArray = tuple[str, tuple[int, ...], Sequence[int]]


def input_arrays(labels: Sequence[str], names: set[str] | None = None) -> list[InputArray]:
    """Inputs as arrays, by their labels: w[0], w[1], ... are one, and so are a layer's weights.

    Labels that fill a grid of one or two indices make an array; all others are in arrays of their
    own, and those without a label in one called x. None gets a name that is in `names`, to which
    theirs are added.
    """
    names = set() if names is None else names
    groups: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for i, label in enumerate(labels):
        stem, index = _split(label)
        groups.setdefault(stem, []).append((index, i))
    result: list[InputArray] = []
    for stem, members in groups.items():
        indices = [index for index, _ in members]
        axes = len(indices[0])
        alike = all(len(index) == axes for index in indices)
        shape = tuple(len({index[axis] for index in indices}) for axis in range(axes * alike))
        grid = (
            alike
            and axes in (1, 2)
            and min(indices) == (0,) * axes
            and len(set(indices)) == len(indices) == prod(shape)
        )
        if grid:
            numbers = [i for _, i in sorted(members)]
            shape = tuple(n for n in shape if n > 1)  # a row of weights, W3 say, is a vector
            result.append((identifier(stem, names), shape, numbers))
        elif stem == "":
            numbers = [i for _, i in members]
            shape = (len(numbers),) if len(numbers) > 1 else ()
            result.append((identifier("x", names), shape, numbers))
        else:
            for index, i in members:
                label = "_".join([stem, *map(str, index)])
                result.append((identifier(label, names), (), [i]))
    return result


def single_names(arrays: Sequence[InputArray], count: int) -> list[str]:
    """A name for each of so many inputs: that of its array, with its place there."""
    names = [""] * count
    for name, shape, numbers in arrays:
        for k, i in enumerate(numbers):
            place: tuple[int, ...] = divmod(k, shape[1]) if len(shape) == 2 else (k,)
            names[i] = "_".join([name, *map(str, place)]) if shape else name
    taken: set[str] = set()
    return [identifier(name, taken) for name in names]


# The patterns below take time quadratic in a label's length.
_LONGEST_PATH = 1000
_INDEX = r"([0-9]{1,9})"


def _checked(label: str) -> str:
    if not isinstance(label, str):
        raise OperandError(f"a label is a str, got {label!r:.60}")
    return label


def _split(label: str) -> tuple[str, tuple[int, ...]]:
    """A label's stem and indices: W1 and (3, 1) for layers[0].neurons[3].w[1]."""
    if len(_checked(label)) > _LONGEST_PATH:
        return label, ()
    path = re.fullmatch(
        rf"(?:(.*?)\.)??(?:layers\[{_INDEX}\]\.)?neurons\[{_INDEX}\]\.(\w+?)(?:\[{_INDEX}\])*",
        label,
    )
    if path:
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
    r"np|jnp|jax|dtype|len|float|values|examples|gradient|outputs|program|ones\d*|places\d+|[ct]\d+(_\d+)*|.*_"
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
        adjoints: Mapping[Value, Value],
    ) -> None:
        self.names = set(inputs)
        self.labels: dict[int, list[str]] = {}
        for node, number in number_of.items():
            if node.op is not None and node.label != "":
                self.labels.setdefault(number, []).append(_checked(node.label))
        # Of the number of a derivative, the numbers of what it is the derivative with respect to.
        self.primals: dict[int, list[tuple[int, int]]] = {}
        for order, (node, adjoint) in enumerate(adjoints.items()):
            at, primal = number_of.get(adjoint), number_of.get(node)
            if at is not None and primal is not None:
                self.primals.setdefault(at, []).append((order, primal))

    def of(self, statement: Statement, array: Callable[[int], Array | None]) -> str:
        """The name of a statement's result.

        `array` says which array has a number of the tape, if one has it so far.
        """
        members = statement.result.members
        name = self._labelled(members) or self._derivative(members, array)
        if not name and statement.op is None:
            products = [term for term in statement.terms if term.kind == "matmul"]
            factors = [view.array.name for term in products for view in term.views]
            weights = [factor for factor in factors if re.fullmatch(r"\w*W\d+", factor)]
            name = weights[0].replace("W", "Z") if len(weights) == 1 else ""
            name = "" if name in self.names else name
        elif not name and len(statement.args) == len(statement.views) == 1:
            source = statement.views[0].array.name
            if source.startswith("Z"):
                name = source.replace("Z", "A")
                name = "" if name in self.names else name
        if name:
            return identifier(name, self.names)
        name = f"t{len(self.names)}"
        self.names.add(name)
        return name

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
        counts = Counter(array(number) for _, number in pairs)
        primal, count = counts.most_common(1)[0]
        known = primal is not None and primal.name != "" and count == len(members)
        return f"d{primal.name}" if primal is not None and known else ""
