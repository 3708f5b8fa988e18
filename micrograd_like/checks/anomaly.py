"""Mistakes in a computation, found: `detect_anomaly` and `stale`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf, isfinite, isinf, isnan
from traceback import FrameSummary, format_list
from typing import TypeVar

from ..engine import Value, topological_order
from ..errors import AnomalyError, users_frame
from ..modes import Mode, watches
from ..views.notation import numeral
from ..views.stepping import Forward, Transfer, _edges, _is_stale, _Writer

_MOST_OPERANDS = 6  # in a message
_LONGEST_PATH = 9

T = TypeVar("T")


def stale(root: Value) -> list[Value]:
    """The nodes, parents first, whose record no longer fits the data of their operands.

    Data was assigned after they were made. `root.backward()` goes by the record: it is right for
    the numbers that the graph was made with. Nodes further on are not listed, as they still fit
    their operands. Raises OperandError (a TypeError) for what is not a Value.

    >>> x = Value(3.0)
    >>> y = x * x
    >>> z = y + 1.0
    >>> x.data = 4.0
    >>> stale(z) == [y]
    True
    """
    return [node for node in topological_order(root) if node.op is not None and _is_stale(node)]


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
        order = topological_order(root)
        active = set(order if wrt is None else wrt)
        adjoint = dict.fromkeys(order, 0.0)
        adjoint[root] = seed
        if not isfinite(seed):
            raise _error(f"the backward pass starts with {seed!r}", root, root)
        if wrt is not None:
            for node in order:
                if not active.isdisjoint(node.parents):
                    active.add(node)
        for node in reversed(order):
            g = adjoint[node]
            for i, parent, d in _edges(node):
                if parent in active:
                    before = adjoint[parent]
                    adjoint[parent] = after = before + g * d
                    if not isfinite(after):
                        edge = Transfer(node, i, parent, d, _Writer(root, order), g, before)
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
    micrograd_like.errors.AnomalyError: exp makes inf in the forward pass
      node: v1 = exp(score) = exp(1000.0) = inf
      operands: score = 1000.0
      nearest label: v1 ← score
      made at...
    """

    _variable, _entry = watches, _Watch(judges=True)


def _judged(node: Value) -> AnomalyError | None:
    """The error, unless the number of `node`, NaN or infinite, comes from one that was let pass."""
    values = [a for a in node.operands if isinstance(a, Value)]
    for operand in values:
        if not isfinite(operand.data) and not isinstance(operand, _Watched):
            where = "in a leaf" if operand.op is None else "in a node made before"
            what = f"{operand.data!r} {where} enters the forward pass"
            return _error(what, operand, node, user=node)
    if isnan(node.data):
        passes = any(isnan(operand.data) for operand in values)
    else:
        passes = any(isinf(a.data if isinstance(a, Value) else a) for a in node.operands)
    if passes:
        return None
    assert node.op is not None
    return _error(f"{node.op.name} makes {node.data!r} in the forward pass", node, node)


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
    # Under no_grad, a node has no parents; its operands have their names even so.
    order = topological_order(*[a for a in root.operands if isinstance(a, Value)], root)
    writer = _Writer(root, order)
    lines = [f"node: {_formula(node, writer)}", *lines]
    if user is not None:
        lines.append(f"used in: {_formula(user, writer)}")
    if node.op is not None:
        operands = list(dict.fromkeys(node.operands))
        if len(operands) > _MOST_OPERANDS:
            operands.sort(key=_size, reverse=True)
        some = [
            f"{writer.text(a)} = {a.data!r}" if isinstance(a, Value) else f"the number {a!r}"
            for a in operands[:_MOST_OPERANDS]
        ]
        if len(operands) > _MOST_OPERANDS:
            some.append(f"and {len(operands) - _MOST_OPERANDS} smaller ones")
        lines.append(f"operands: {', '.join(some)}")
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


def _size(operand: Value | float) -> float:
    x = abs(operand.data if isinstance(operand, Value) else operand)
    return inf if isnan(x) else x


def _formula(node: Value, writer: _Writer) -> str:
    event = Forward(0, node, node.data, (), writer)
    return " = ".join(filter(None, [event.symbols, event.numbers, numeral(node.data)]))


def _path_to_label(node: Value, order: Sequence[Value]) -> list[Value]:
    """A shortest way from `node` along edges, up or down, to a node with a label; [] if none."""
    near: dict[Value, list[Value]] = {v: [] for v in order}
    for v in order:
        for operand in v.operands:
            if isinstance(operand, Value):
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


def _written(path: Sequence[Value], writer: _Writer) -> str:
    """The names along the path, with arrows from operands to what is made of them."""
    pieces = [writer.text(path[0])]
    for v, w in pairwise(path):
        arrow = "→" if any(v is operand for operand in w.operands) else "←"
        pieces.append(f"{arrow} {writer.text(w)}")
    if len(pieces) > _LONGEST_PATH:
        pieces[3:-3] = [f"… ({len(pieces) - 6} more)"]
    return " ".join(pieces)
