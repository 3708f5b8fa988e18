"""The first NaN or infinity of a computation, found where it begins: `detect_anomaly`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf, isfinite, isinf, isnan
from traceback import FrameSummary, format_list
from typing import TypeVar

from ..engine import Value, adjoints, numbers_of, topological_order
from ..errors import MicrogradError, users_frame
from ..gradients import between
from ..modes import Mode, watches
from ..views.names import numeral
from ..views.stepping import Transfer, Writer, steps
from ..words import first_and_last

_MOST_OPERANDS = 6  # in a message
_LONGEST_PATH = 9

T = TypeVar("T")


class AnomalyError(MicrogradError, FloatingPointError):
    """The first NaN or infinity, found by `detect_anomaly`.

    `node` is where it appeared: the node with that number, or the one whose local derivative made
    an adjoint of it. `path` leads from there to the nearest node with a label, and is empty where
    there is none. `made_at` is the line of user code that made the node, if that was watched.
    """

    def __init__(
        self, message: str, node: Value, path: Sequence[Value], made_at: FrameSummary | None
    ) -> None:
        super().__init__(message, node, path, made_at)
        self.node = node
        self.path = path
        self.made_at = made_at

    def __str__(self) -> str:
        return str(self.args[0])


class _Watched(Value):
    """A node that knows which line of user code made it."""

    __slots__ = ("place",)

    place: tuple[str, int, str]


_new_watched = partial(object.__new__, _Watched)


class _Watch:
    """What the engine calls while `detect_anomaly` is in force.

    One that does not judge lets every number pass. It watches over the graphs of gradients: these
    may hold infinities, such as a local derivative that nobody asked for, where all adjoints are
    finite.
    """

    def __init__(self, judges: bool) -> None:
        self.judges = judges

    def made(self, node: Value) -> Value:
        """The node with its place. Raises AnomalyError if it has the first NaN or infinity."""
        out = _new_watched()
        for slot in Value.__slots__:
            setattr(out, slot, getattr(node, slot))
        frame, _ = users_frame()
        out.place = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname
        if self.judges and not isfinite(out.data) and (error := _judged(out)) is not None:
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
                    raise _backward_error(edge, root)

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
    programs compute on arrays (`program(values, check=True)` refuses what leaves a domain) and
    `jvp` with tangents: neither is watched. Each operation takes a few microseconds more; without
    any such context, none at all.

    >>> score = Value(1000.0, label="score")
    >>> with detect_anomaly():  # doctest: +ELLIPSIS
    ...     p = score.exp() / (score.exp() + 1.0)
    Traceback (most recent call last):
        ...
    micrograd_like.checks.anomaly.AnomalyError: exp makes inf in the forward pass
      node: v1 = exp(score) = exp(1000.0) = inf
      operands: score = 1000.0
      nearest label: v1 ← score
      made at...
    """

    _variable, _entry = watches, _Watch(judges=True)


def _judged(node: Value) -> AnomalyError | None:
    """The error, unless the number of `node`, NaN or infinite, comes from one that was let pass."""
    for operand in _values(node):
        if not isfinite(operand.data) and not isinstance(operand, _Watched):
            where = "in a leaf" if operand.op is None else "in a node made before"
            what = f"{operand.data!r} {where} enters the forward pass"
            return _error(what, operand, node, user=node)
    if isnan(node.data):
        passes = any(isnan(operand.data) for operand in _values(node))
    else:
        passes = any(map(isinf, numbers_of(node.operands)))
    if passes:
        return None
    assert node.op is not None
    return _error(f"{node.op.name} makes {node.data!r} in the forward pass", node, node)


def _values(node: Value) -> list[Value]:
    """The operands that are nodes. (Under no_grad they are not its parents.)"""
    return [operand for operand in node.operands if isinstance(operand, Value)]


def _backward_error(edge: Transfer, root: Value) -> AnomalyError:
    """The error for the edge after which an adjoint is not finite."""
    if isfinite(edge.contribution):
        what = f"adding up an adjoint makes {edge.after!r}"
    else:
        assert edge.child.op is not None
        what = f"{edge.child.op.name} makes {edge.contribution!r}"
    lines = [f"chain rule: {edge.formula}", f"local derivative: {edge.partial}"]
    return _error(f"{what} in the backward pass", edge.child, root, lines)


def _error(
    what: str, node: Value, root: Value, lines: Sequence[str] = (), user: Value | None = None
) -> AnomalyError:
    """The error at `node` in the graph of `root`, where `user` met its number, if not `node`."""
    order = topological_order(*_values(root), root)
    writer = Writer(root, order)
    lines = [f"node: {_formula(node, writer)}", *lines]
    if user is not None:
        lines.append(f"used in: {_formula(user, writer)}")
    if node.op is not None:
        lines.append(f"operands: {_operands(node, writer)}")
    path = _path_to_label(node, order)
    if path:
        lines.append(f"nearest label: {_written(path, writer)}")
    witness = node if user is None else user
    place = None
    if isinstance(witness, _Watched):
        filename, line, function = witness.place
        place = FrameSummary(filename, line, function)
        lines.append(f"{'made' if user is None else 'used'} at")
        lines += format_list([place])[0].rstrip().splitlines()
    elif witness.op is not None:
        lines.append("made before detect_anomaly(): build the graph inside it to see the line")
    return AnomalyError("\n  ".join([what, *lines]), node, path, place)


def _formula(node: Value, writer: Writer) -> str:
    pieces = [writer.symbols(node), writer.numbers(node), numeral(node.data)]
    return " = ".join(filter(None, pieces))


def _operands(node: Value, writer: Writer) -> str:
    """The operands with their numbers; of many, the largest."""
    operands = list(dict.fromkeys(node.operands))
    smaller = len(operands) - _MOST_OPERANDS
    if smaller > 0:
        operands = sorted(operands, key=_size, reverse=True)[:_MOST_OPERANDS]
    some = [
        f"{writer.text(a)} = {a.data!r}" if isinstance(a, Value) else f"the number {a!r}"
        for a in operands
    ]
    return ", ".join([*some, f"and {smaller} smaller ones"] if smaller > 0 else some)


def _size(operand: Value | float) -> float:
    x = abs(operand.data if isinstance(operand, Value) else operand)
    return inf if isnan(x) else x


def _path_to_label(node: Value, order: Sequence[Value]) -> list[Value]:
    """A shortest way from `node` along edges, up or down, to a node with a label; [] if none."""
    near: dict[Value, list[Value]] = {v: [] for v in order}
    for v in order:
        for operand in _values(v):
            near[v].append(operand)
            near[operand].append(v)
    towards: dict[Value, Value] = {node: node}
    queue = deque([node])
    while queue:
        v = queue.popleft()
        if v.label:
            path = [v]
            while v is not node:
                v = towards[v]
                path.append(v)
            return path[::-1]
        for neighbour in near[v]:
            if neighbour not in towards:
                towards[neighbour] = v
                queue.append(neighbour)
    return []


def _written(path: Sequence[Value], writer: Writer) -> str:
    """The names along the path, with arrows from operands to what is made of them."""
    pieces = [writer.text(path[0])]
    for v, w in pairwise(path):
        arrow = "→" if any(v is operand for operand in w.operands) else "←"
        pieces.append(f"{arrow} {writer.text(w)}")
    if len(pieces) > _LONGEST_PATH:
        pieces = first_and_last(pieces, "… ({} more)", 3, 3)
    return " ".join(pieces)
