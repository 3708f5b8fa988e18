"""The first NaN or infinity of a computation, found where it begins: `detect_anomaly`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf, isfinite, isinf, isnan
from traceback import FrameSummary, format_list
from types import CodeType
from typing import TypeVar

from ..engine import Value, adjoints, node_as, numbers_of, topological_order
from ..errors import MicrogradError, users_frame
from ..gradients import between
from ..modes import Mode, watches
from ..views.names import numeral
from ..views.stepping import Writer, steps
from ..words import first_and_last, several

_MOST_OPERANDS, _LONGEST_PATH = 6, 9  # in a message

T = TypeVar("T")


class AnomalyError(MicrogradError, FloatingPointError):
    """The first NaN or infinity, found by `detect_anomaly`.

    `node` is where it appeared: the node with that number, or the one whose local derivative made
    an adjoint of it. `path` leads from there to the nearest node with a label ([] if there is
    none). `made_at` is the line of user code that made the node, if that was watched.
    """

    node: Value
    path: Sequence[Value]
    made_at: FrameSummary | None


class _Watched(Value):
    """A node that knows which line of user code made it."""

    __slots__ = ("place",)

    place: tuple[CodeType, int]


class _Watch:
    """What the engine calls while `detect_anomaly` is in force.

    One that does not judge lets every number pass: graphs of gradients may hold infinities, such as
    a local derivative that nobody asked for, where all adjoints are finite.
    """

    def __init__(self, judges: bool) -> None:
        self.judges = judges

    def made(self, node: Value) -> Value:
        """The node with its place. Raises AnomalyError if it has the first NaN or infinity."""
        out = node_as(_Watched, node)
        frame, _ = users_frame()
        out.place = frame.f_code, frame.f_lineno
        if self.judges and not isfinite(node.data) and (error := _judged(out)) is not None:
            raise error from None  # an op may have fallen back on its answer to an OverflowError
        return out

    def foresee(self, root: Value, seed: float, wrt: Sequence[Value] | None = None) -> None:
        """Raise AnomalyError at the first adjoint that the sweep from `root` will not have finite.

        With `wrt`, only the adjoints of what lies between them and `root` count.
        """
        if not isfinite(seed):
            raise _error(f"the backward pass starts with {seed!r}", root, root)
        adjoint = adjoints(root, seed)
        active = adjoint if wrt is None else between(root, wrt)
        if all(isfinite(adjoint[node]) for node in active):
            return  # a sum is not finite if one of its terms was not
        for event in steps(root, seed).backward:
            for edge in event.edges:
                if edge.parent in active and not isfinite(edge.after):
                    what = f"adding up an adjoint makes {edge.after!r}"
                    if not isfinite(edge.contribution) and edge.child.op is not None:
                        what = f"{edge.child.op.name} makes {edge.contribution!r}"
                    lines = [f"chain rule: {edge.formula}", f"local derivative: {edge.partial}"]
                    raise _error(f"{what} in the backward pass", edge.child, root, lines)

    def trusting(
        self, sweep: Callable[[Value, Sequence[Value]], T], root: Value, wrt: Sequence[Value]
    ) -> T:
        """`sweep(root, wrt)`, foreseen on floats; the nodes that it makes are not judged."""
        self.foresee(root, 1.0, wrt)
        with _trusted():
            return sweep(root, wrt)


class _trusted(Mode):  # noqa: N801 - a context, as the other modes
    _variable, _entry = watches, _Watch(judges=False)


class detect_anomaly(Mode):  # noqa: N801 - the name PyTorch gave it
    """Within this context (or decorated function) the first NaN or infinity raises AnomalyError.

    The forward pass raises where a node becomes NaN or infinite, the backward passes (`backward`,
    `grad` and what is built on them) where an adjoint does, before any `.grad` is touched. The
    error names the node, its operation, its operands, the way to the nearest label and the line of
    your code that made the node; `error.node` can be drawn. The same holds under `no_grad`.

    A number of the leaves is to blame where they have one: a parameter that has become NaN, say.
    An infinite plain number is taken for intended, as -inf is in a mask, and so is what it makes
    infinite. Local derivatives count when an adjoint meets them: sqrt(0) is fine until then.

    Nodes made before are watched in the backward pass, but nobody knows their line. Compiled
    programs (`program(values, check=True)` refuses what leaves a domain) and `jvp` are not watched.
    Each operation takes a few microseconds more; without any such context, none at all.
    """

    _variable, _entry = watches, _Watch(judges=True)


def _values(node: Value) -> list[Value]:
    """The operands that are nodes. (Under no_grad they are not its parents.)"""
    return [operand for operand in node.operands if isinstance(operand, Value)]


def _judged(node: Value) -> AnomalyError | None:
    """The error, unless the number of `node`, NaN or infinite, comes from one that was let pass."""
    for operand in _values(node):
        if not isfinite(operand.data) and not isinstance(operand, _Watched):
            where = "in a leaf" if operand.op is None else "in a node made before"
            what = f"{operand.data!r} {where} enters the forward pass"
            return _error(what, operand, node, user=node)
    passing = [isinf(x) for x in numbers_of(node.operands)]
    if isnan(node.data):
        passing = [isnan(operand.data) for operand in _values(node)]
    name = "" if node.op is None else node.op.name
    what = f"{name} makes {node.data!r} in the forward pass"
    return None if any(passing) else _error(what, node, node)


def _error(
    what: str, node: Value, root: Value, lines: Sequence[str] = (), user: Value | None = None
) -> AnomalyError:
    """The error at `node` in the graph of `root`, where `user` met its number, if not `node`."""
    order = topological_order(*_values(root), root, untaken=True)
    writer = Writer(root, order)

    def formula(node: Value) -> str:
        pieces = [writer.symbols(node), writer.numbers(node), numeral(node.data)]
        return " = ".join(filter(None, pieces))

    lines = [f"node: {formula(node)}", *lines]
    if user is not None:
        lines.append(f"used in: {formula(user)}")
    if operands := list(dict.fromkeys(node.operands)):
        if len(operands) > _MOST_OPERANDS:  # the largest tell most
            operands.sort(key=lambda a: -inf if isnan(x := numbers_of([a])[0]) else -abs(x))
        numbers = [
            f"{writer.text(a)} = {a.data!r}" if isinstance(a, Value) else f"the number {a!r}"
            for a in operands
        ]
        lines.append(f"operands: {several(numbers, _MOST_OPERANDS)}")
    path = _path_to_label(node, order)
    if path:
        names = [writer.text(path[0])]
        for v, w in pairwise(path):
            names.append(f"{'→' if v in _values(w) else '←'} {writer.text(w)}")
        names = first_and_last(names, "… ({} more)", 3, 3, _LONGEST_PATH)
        lines.append(f"nearest label: {' '.join(names)}")
    witness, place = node if user is None else user, None
    if isinstance(witness, _Watched):
        code, line = witness.place
        place = FrameSummary(code.co_filename, line, code.co_qualname)
        lines.append("made at" if user is None else "used at")
        lines += format_list([place])[0].rstrip().splitlines()
    elif witness.op is not None:
        lines.append("made before detect_anomaly(): build the graph inside it to see the line")
    error = AnomalyError("\n  ".join([what, *lines]))
    error.node, error.path, error.made_at = node, path, place
    return error


def _path_to_label(node: Value, order: Sequence[Value]) -> list[Value]:
    """A shortest way from `node` along edges, up or down, to a node with a label; [] if none."""
    near = {v: _values(v) for v in order}
    for v in order:
        for operand in _values(v):
            near[operand].append(v)
    before = {node: node}
    for v in (queue := [node]):
        if v.label:
            path = [v]
            while path[-1] is not node:
                path.append(before[path[-1]])
            return path[::-1]
        for neighbour in near[v]:
            if neighbour not in before:
                before[neighbour] = v
                queue.append(neighbour)
    return []
