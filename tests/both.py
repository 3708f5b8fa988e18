"""The two engines side by side: this package, and a copy of it whose engine is Python's text.

A *history* is everything that can be seen of a program in one of them, in comparable form: values,
local derivatives and gradients to the bit, the order of graphs, errors and their texts.
"""

from __future__ import annotations

import copy
import io
import operator
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from reference import Program

import micrograd_like

OPERATORS = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "pow": operator.pow, "mod": operator.mod, "abs": abs,
}  # fmt: skip
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def _copy_in_python() -> ModuleType:
    if (known := sys.modules.get("micrograd_like_in_python")) is not None:
        return known  # a second copy would share its parts, which have the first as their package
    file = Path(micrograd_like.__file__)
    spec = spec_from_file_location(
        "micrograd_like_in_python", file, submodule_search_locations=[str(file.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    before = os.environ.get("MICROGRAD_LIKE_PURE")
    os.environ["MICROGRAD_LIKE_PURE"] = "1"
    try:
        spec.loader.exec_module(module)
    finally:
        del os.environ["MICROGRAD_LIKE_PURE"]
        if before is not None:
            os.environ["MICROGRAD_LIKE_PURE"] = before
    return module


IN_PYTHON: Any = _copy_in_python()
IN_C: Any = micrograd_like  # where it was built


class _Reader(pickle.Unpickler):
    """Reads pickles of one package as objects of another."""

    def __init__(self, data: bytes, package: ModuleType) -> None:
        super().__init__(io.BytesIO(data))
        self._name = package.__name__

    def find_class(self, module: str, name: str) -> Any:
        top, *below = module.split(".")
        if top in (IN_C.__name__, IN_PYTHON.__name__):
            top = self._name
        return super().find_class(".".join([top, *below]), name)


def read(data: bytes, package: Any) -> Any:
    return _Reader(data, package).load()


def outcome(act: Callable[..., Any], *args: Any) -> Any:
    """What the act gives, or how it is refused."""
    try:
        return act(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def plain(package: Any, x: Any) -> Any:
    """A result in comparable form."""
    if isinstance(x, package.Value):
        return graph(package, x)
    return x.hex() if type(x) is float else x


def graph(package: Any, *roots: Any) -> list[Any]:
    """Everything about a graph but the identity of its nodes."""
    order = package.topological_order(*roots, untaken=True)
    place = {node: i for i, node in enumerate(order)}
    return [
        (
            node.data.hex(),
            node.grad.hex(),
            node.label,
            node.op and node.op.name,
            [a.hex() if type(a) is float else place[a] for a in node.operands],
            [place[a] for a in node.parents],
            [d.hex() for d in node.local_grads],
            [(place[a], d.hex()) for a, d in node.edges],
            [d and d.hex() for d in node.operand_grads],
            (repr(node), f"{node:.3g}", node._op, len(node._prev)),
        )
        for node in order
    ]


def history(package: Any, program: Program, kind: str = "Value") -> Iterator[Any]:
    """What can be seen of the program: its inputs are Values, or of a subclass of the user's."""
    own: Any = type("Own", (package.Value,), {"__slots__": ()} if kind == "Plain" else {})
    make = package.Value if kind == "Value" else own
    inputs = [make(x, f"x{i}") for i, x in enumerate(program.inputs)]
    results = run(package, program, inputs)
    yield [plain(package, x) for x in results]
    root = next((x for x in reversed(results) if isinstance(x, package.Value)), inputs[0])
    for second in results[-3:]:
        yield [outcome(compare, root, second) for compare in COMPARISONS]
    for seed in (1.0, -0.3):
        root.backward(seed)
        yield graph(package, root, *inputs)
    yield [x.hex() for x in package.grad(root, inputs)]
    places = {node: i for i, node in enumerate(package.topological_order(root))}
    yield [(places[v], g.hex()) for v, g in package.engine.adjoints(root, 0.7).items()]
    slopes = outcome(package.grad, root, inputs, True)
    yield slopes if isinstance(slopes, str) else graph(package, *slopes)
    if not isinstance(slopes, str):
        yield [[x.hex() for x in package.grad(slope, inputs)] for slope in slopes]
    with package.no_grad():
        yield [plain(package, x) for x in run(package, program, inputs)]
    for twin in (copy.copy(root), copy.deepcopy(root)):
        yield graph(package, twin)
    if kind == "Value":  # a class that was made here is not found by its name
        yield graph(package, pickle.loads(pickle.dumps(root)))


def run(package: Any, program: Program, inputs: list[Any]) -> list[Any]:
    """The results of the steps, up to the first that is refused."""
    results = list(inputs)
    for name, operands in program.steps:
        results.append(outcome(act(package, name), *Program.pick(results, operands)))
        if isinstance(results[-1], str):
            break
    return results


def act(package: Any, name: str) -> Callable[..., Any]:
    """The operation as a program writes it: an operator, a method if it has one, or the row."""
    if name == "affine":
        return lambda *xs: package.affine(xs[: len(xs) // 2], xs[len(xs) // 2 : -1], xs[-1])
    row = OPERATORS.get(name, package.ops.TABLE[name])
    return lambda *xs: (
        getattr(xs[0], name)()
        if len(xs) == 1 and hasattr(package.Value, name) and isinstance(xs[0], package.Value)
        else row(*xs)
    )
