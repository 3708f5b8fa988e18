"""The two passes as data, one event a node, and a page that plays them.

`steps` changes nothing: it reads the recorded values and local derivatives, and adds them up in
the order in which `Value.backward` does, so that its gradients are the same to the last bit.
Texts are made when they are asked for, so that large graphs have their steps in seconds.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Final, overload

from ..engine import Value, topological_order
from ..errors import InputError
from ..numerics import number
from ..ops import Op
from ..state import write_atomically
from .algebra import Expression, partials, write
from .drawing import draw
from .names import names, numeral

MOST_STEPS = 20_000  # on a page: browsers lay out tables of 10,000 rows, but not of 100,000

_LONGEST_NAME = 40  # in a formula
_MOST_TERMS = 5  # of a sum, of a call, and of the lines about one node
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_RECORDED = "(as recorded: data was changed since)"


class Edge:
    """`parent` at place `operand` among the operands of `child`, and the derivative recorded there.

    `str` writes it: ∂d/∂a = b = -3.0. Where a node is an operand twice, as in x·x, ∂y/∂x⁽¹⁾ and
    ∂y/∂x⁽²⁾ are the derivatives at its first and second place.
    """

    __slots__ = ("_writer", "child", "local", "operand", "parent")

    def __init__(
        self, child: Value, operand: int, parent: Value, local: float, writer: _Writer
    ) -> None:
        self.child: Final = child
        self.operand: Final = operand
        self.parent: Final = parent
        self.local: Final = local
        self._writer: Final = writer

    @property
    def ratio(self) -> tuple[str, str]:
        """The local derivative's name, as what stands above and below: ∂d, ∂a."""
        operands, name = self.child.operands, self._writer.atom(self.parent)
        if sum(operand is self.parent for operand in operands) > 1:
            place = 1 + sum(operand is self.parent for operand in operands[: self.operand])
            name += f"⁽{str(place).translate(_SUPERSCRIPTS)}⁾"
        return f"∂{self._writer.atom(self.child)}", f"∂{name}"

    @property
    def symbols(self) -> str:
        """The local derivative in symbols; "" where it is just a number, or data was changed."""
        return self._writer.partial(self.child, self.operand)

    @property
    def partial(self) -> str:
        """The local derivative with its name, in symbols and as a number: ∂d/∂a = b = -3.0."""
        return " = ".join(filter(None, ["/".join(self.ratio), self.symbols, numeral(self.local)]))

    def __str__(self) -> str:
        return self.partial

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


class Transfer(Edge):
    """What a node hands to the adjoint of one of its parents: its own, times the local derivative.

    `adjoint` is the child's, `contribution` the product; `before` and `after` are the parent's.
    """

    __slots__ = ("adjoint", "after", "before", "contribution")

    def __init__(
        self,
        child: Value,
        operand: int,
        parent: Value,
        local: float,
        writer: _Writer,
        adjoint: float,
        before: float,
    ) -> None:
        super().__init__(child, operand, parent, local, writer)
        self.adjoint: Final = adjoint
        self.contribution: Final = adjoint * local
        self.before: Final = before
        self.after: Final = before + self.contribution

    @property
    def formula(self) -> str:
        """The chain rule along this edge: ∂L/∂a += ∂L/∂d · ∂d/∂a = 4.0 · (-3.0) = -12.0."""
        sums, given = self._writer.derivative(self.parent), self._writer.derivative(self.child)
        numbers = f"{_factor(self.adjoint)} · {_factor(self.local)}"
        result = numeral(self.contribution)
        return f"{sums} += {given} · {'/'.join(self.ratio)} = {numbers} = {result}"

    def __str__(self) -> str:
        return self.formula


class Event:
    """One node's turn in one of the passes: number `index` of all the steps, counted from 0.

    `before` and `after` are the node's value (None before it is computed) in the forward pass and
    its `.grad` in the backward pass: a leaf's adds to what it held, any other starts at 0.
    """

    __slots__ = ("_writer", "after", "before", "index", "node")

    phase: ClassVar[str]

    def __init__(
        self, index: int, node: Value, before: float | None, after: float, writer: _Writer
    ) -> None:
        self.index: Final = index
        self.node: Final = node
        self.before: Final = before
        self.after: Final = after
        self._writer: Final = writer

    @property
    def name(self) -> str:
        """The node's label, or v1, v2, ... where it has none; unique in the graph."""
        return self._writer.name(self.node)

    @property
    def symbols(self) -> str:
        raise NotImplementedError

    @property
    def formula(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return self.formula

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.index}: {self.formula}>"


class Forward(Event):
    """A leaf is given, or a node computed; `edges` are those from its parents."""

    __slots__ = ("edges",)

    phase = "forward"

    def __init__(
        self, index: int, node: Value, after: float, edges: tuple[Edge, ...], writer: _Writer
    ) -> None:
        super().__init__(index, node, None, after, writer)
        self.edges: Final = edges

    @property
    def symbols(self) -> str:
        """What the node is in terms of its operands: d = a·b. A leaf's is its name."""
        name = self._writer.text(self.node)
        return f"{name} = {self._writer.operation(self.node)}" if self.node.op else name

    @property
    def numbers(self) -> str:
        """The same with numbers for names; "" for a leaf, and where data was changed since."""
        return self._writer.substituted(self.node)

    @property
    def formula(self) -> str:
        """Symbols, numbers and result: d = a·b = 2.0 · (-3.0) = -6.0."""
        result = numeral(self.after)
        if self.node.op and not self.numbers:
            result += f" {_RECORDED}"
        return " = ".join(filter(None, [self.symbols, self.numbers, result]))


class Backward(Event):
    """A node's adjoint is complete: it is handed on to its parents, or added to a leaf's `.grad`.

    `adjoint` is the derivative of the root with respect to the node; `edges` are the transfers.
    """

    __slots__ = ("adjoint", "edges")

    phase = "backward"

    def __init__(
        self,
        index: int,
        node: Value,
        before: float,
        adjoint: float,
        edges: tuple[Transfer, ...],
        writer: _Writer,
    ) -> None:
        after = adjoint if node.op else adjoint + before
        super().__init__(index, node, before, after, writer)
        self.adjoint: Final = adjoint
        self.edges: Final = edges

    @property
    def symbols(self) -> str:
        """The adjoint's name: ∂L/∂a."""
        return self._writer.derivative(self.node)

    @property
    def head(self) -> str:
        """The node's adjoint, or what becomes of the `.grad` of a leaf that held something."""
        adjoint = f"{self.symbols} = {numeral(self.adjoint)}"
        if self.node.op or not self.before:
            return adjoint
        grad = f"{self._writer.atom(self.node)}.grad"
        result = f"{_factor(self.before)} + {_factor(self.adjoint)} = {numeral(self.after)}"
        return f"{adjoint}, {grad} += {self.symbols} = {result}"

    @property
    def formula(self) -> str:
        """The adjoint, and a line for each edge; of many edges the first three and the last."""
        return "\n".join([self.head, *(f"  {edge}" for edge in _few(self.edges))])


class Steps(Sequence[Event]):
    """All the events in order of execution; `forward` and `backward` are the two passes."""

    def __init__(self, forward: list[Forward], backward: list[Backward]) -> None:
        self.forward = forward
        self.backward = backward

    def __len__(self) -> int:
        return len(self.forward) + len(self.backward)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        n = len(self.forward)
        return self.forward[place] if place < n else self.backward[place - n]

    def __iter__(self) -> Iterator[Event]:
        yield from self.forward
        yield from self.backward

    def replay(self) -> dict[Value, float]:
        """Every node's gradient, added up from the events' contributions, as `backward` does it."""
        gradients = dict.fromkeys([event.node for event in self.backward], 0.0)
        root = self.backward[0]
        gradients[root.node] = root.adjoint
        for event in self.backward:
            for edge in event.edges:
                gradients[edge.parent] += edge.contribution
            if event.node.op is None:
                gradients[event.node] += event.before or 0.0
        return gradients

    def _lines(self, events: Sequence[Event]) -> list[str]:
        width = len(str(len(self)))
        return [
            f"{event.index + 1:{width}}  " + event.formula.replace("\n", "\n" + " " * (width + 2))
            for event in events
        ]

    def __str__(self) -> str:
        passes = [
            ["forward", *self._lines(self.forward)],
            ["backward", *self._lines(self.backward)],
        ]
        return "\n".join(line for lines in passes for line in lines)

    def __repr__(self) -> str:
        """The text, of which a long pass shows the first and the last lines."""
        lines: list[str] = []
        for title, events in (("forward", self.forward), ("backward", self.backward)):
            lines.append(title)
            if len(events) <= 40:
                lines += self._lines(events)
            else:
                lines += self._lines(events[:20])
                lines.append(f"... {len(events) - 30} more; print(steps) shows all")
                lines += self._lines(events[-10:])
        return "\n".join(lines)


def steps(root: Value, seed: float = 1.0) -> Steps:
    """The forward and the backward pass through the graph of `root`, one event a node and pass.

    Nothing is computed anew and no `.grad` is touched; `seed` is as in `Value.backward`.
    Raises OperandError (a TypeError) for what is not a Value.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> L = (a * b).tanh()
    >>> L.label = "L"
    >>> steps(L)
    forward
    1  a = 2.0
    2  b = -3.0
    3  v1 = a·b = 2.0 · (-3.0) = -6.0
    4  L = tanh(v1) = tanh(-6.0) = -1.0
    backward
    5  ∂L/∂L = 1.0
         ∂L/∂v1 += ∂L/∂L · ∂L/∂v1 = 1.0 · 2.458e-05 = 2.458e-05
    6  ∂L/∂v1 = 2.458e-05
         ∂L/∂a += ∂L/∂v1 · ∂v1/∂a = 2.458e-05 · (-3.0) = -7.373e-05
         ∂L/∂b += ∂L/∂v1 · ∂v1/∂b = 2.458e-05 · 2.0 = 4.915e-05
    7  ∂L/∂b = 4.915e-05
    8  ∂L/∂a = -7.373e-05
    """
    order = topological_order(root)
    writer = _Writer(root, order)
    forward: list[Forward] = []
    for node in order:
        edges = tuple([Edge(node, i, parent, d, writer) for i, parent, d in _edges(node)])
        forward.append(Forward(len(forward), node, node.data, edges, writer))
    adjoint = dict.fromkeys(order, 0.0)
    adjoint[root] = number(seed)
    backward: list[Backward] = []
    for node in reversed(order):
        g = adjoint[node]
        transfers = []
        for i, parent, d in _edges(node):
            transfer = Transfer(node, i, parent, d, writer, g, adjoint[parent])
            adjoint[parent] = transfer.after
            transfers.append(transfer)
        before = 0.0 if node.op else number(node.grad) + 0.0  # which makes 0.0 of -0.0
        index = len(order) + len(backward)
        backward.append(Backward(index, node, before, g, tuple(transfers), writer))
    return Steps(forward, backward)


def _edges(node: Value) -> Iterator[tuple[int, Value, float]]:
    """The operands that are nodes: their places, themselves, and the derivatives recorded."""
    local = iter(node.local_grads)
    for i, operand in enumerate(node.operands):
        if isinstance(operand, Value):
            yield i, operand, next(local)


# --- writing --------------------------------------------------------------------------------------


class _Writer:
    """What the events of one graph share to write themselves: the names, made at the first use."""

    def __init__(self, root: Value, order: list[Value]) -> None:
        self._root = root
        self._order = order
        self._names: dict[Value, str] = {}
        self._last: tuple[Value, Sequence[Expression | None]] | None = None

    def name(self, node: Value) -> str:
        if not self._names:
            self._names = names(self._order)
        return self._names[node]

    def text(self, node: Value) -> str:
        """The name as it stands in a line: short, without line ends, its direction kept inside."""
        name = self.name(node)
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 13]}…{name[-12:]}"  # two names may differ at the end
        name = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", name)
        if re.search(
            "[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc\U00010800-\U00010fff]",
            name,
        ):
            # Letters written from right to left would take the rest of the formula along.
            name = f"\u2068{name}\u2069"
        return name

    def atom(self, node: Value) -> str:
        """The name, in parentheses if it looks like more than a name: (x1·w1)."""
        name = self.text(node)
        return name if _is_atom(name) else f"({name})"

    def derivative(self, node: Value) -> str:
        return "/".join(self.ratio(node))

    def ratio(self, node: Value) -> tuple[str, str]:
        return f"∂{self.atom(self._root)}", f"∂{self.atom(node)}"

    def operation(self, node: Value) -> str:
        """The node's operation in terms of the names of its operands."""
        assert node.op is not None
        operands = node.operands

        def spelled(i: int) -> tuple[str, float]:
            operand = operands[i]
            if isinstance(operand, Value):
                name = self.text(operand)
                return name, 9 if _is_atom(name) else 0
            return f"{operand:.15g}", 3 if operand < 0.0 else 9

        return _written(node.op, len(operands), spelled)

    def substituted(self, node: Value) -> str:
        """The operation in numbers; "" where they do not give the node's value any more."""
        if node.op is None or _is_stale(node):
            return ""
        operands = node.operands

        def spelled(i: int) -> tuple[str, float]:
            operand = operands[i]
            text = numeral(operand.data if isinstance(operand, Value) else operand)
            if text == "0.0" and variadic and isinstance(operand, Value):
                text += "\0"  # `write` leaves out a bias of 0.0, but in symbols this one is there
            return text, 3 if text.startswith("-") else 9

        variadic = node.op.arity is None
        numbers = _written(node.op, len(operands), spelled).replace("\0", "")
        return re.sub(r" *· *", " · ", numbers)

    def partial(self, node: Value, i: int) -> str:
        """The local derivative by operand i in symbols, "" if it is a number or data has changed.

        The last node's are kept: each of a thousand edges into a sum would make all of them.
        """
        if self._last is None or self._last[0] is not node:
            self._last = node, self._partials(node)
        partial = self._last[1][i]
        if partial is None or partial.number is not None:
            return ""
        return re.sub(r"^\(([^()]*)\)$", r"\1", partial.text)

    def _partials(self, node: Value) -> Sequence[Expression | None]:
        operands = node.operands
        if node.op is None or _is_stale(node):
            return [None] * len(operands)
        expressions = [
            Expression(self.atom(a)) if isinstance(a, Value) else Expression(number=a)
            for a in operands
        ]
        return partials(node.op, expressions, Expression(self.atom(node)))


def _is_atom(name: str) -> bool:
    return re.fullmatch(r"[\w.\[\]'′\u2068\u2069]+", name) is not None


def _factor(x: float) -> str:
    text = numeral(x)
    return f"({text})" if text.startswith("-") else text


def _few(items: Sequence[Any]) -> list[Any]:
    """The items, of many the first three and the last, with a note between them."""
    if len(items) <= _MOST_TERMS:
        return list(items)
    return [*items[:3], f"… ({len(items) - 4} more)", items[-1]]


def _written(op: Op, count: int, spelled: Callable[[int], tuple[str, float]]) -> str:
    """`op` written with operands of which `spelled` gives text and binding; of many, a few."""
    gap = ("…", 9.0)
    if op.arity is None and "@" in op.text and count > _MOST_TERMS:  # f(x1, x2, x3, …, xn)
        return write(op, [*map(spelled, range(3)), gap, spelled(count - 1)])
    n = count // 2
    if op.arity is None and "@" not in op.text and n > _MOST_TERMS:  # w1·x1 + … + wn·xn + b
        first = write(op, [*map(spelled, (0, 1, 2, n, n + 1, n + 2)), gap])
        last = write(op, [*map(spelled, (n - 1, 2 * n - 1, 2 * n))])
        return f"{first} + {last}".replace(" + -", " - ")
    return write(op, [*map(spelled, range(count))])


def _is_stale(node: Value) -> bool:
    """Whether data was changed so that the operands do not give what the node recorded."""
    op, operands = node.op, node.operands
    assert op is not None
    xs = [a.data if isinstance(a, Value) else a for a in operands]
    try:
        out = op.evaluate(xs)
        if op.arity is None:
            now = list(op.partials[0](*xs, out))
            now = [now[i] for i, _, _ in _edges(node)]
        else:
            now = [op.partials[i](*xs, out) for i, _, _ in _edges(node)]
    except Exception:  # a domain left since, or whatever a row of the user's raises
        return True
    recorded = [node.data, *node.local_grads]
    return any(x != y and (x == x or y == y) for x, y in zip(recorded, [out, *now], strict=True))


# --- the page -------------------------------------------------------------------------------------

# A piece of a line on the page: its class, and a text, or what stands above and below in a ratio.
# A row of the page's script: the class of a line, and its pieces.
_Piece = tuple[str, str] | tuple[str, str, str]
_Line = tuple[str, list[_Piece]]


class Player:
    """A page that plays the steps. In a notebook it shows itself; `save` writes it to a file."""

    def __init__(self, page: str, svg: str, title: str, alt: str) -> None:
        self._page = page
        self._svg = svg
        self._title = title
        self._alt = alt

    @property
    def html(self) -> str:
        """The whole page, which needs nothing but itself."""
        return self._page

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file (UTF-8), whole or not at all. Raises OSError."""
        write_atomically(path, self._page)

    def _repr_html_(self) -> str:
        """The page in a sandboxed frame that lies on the picture.

        Where a notebook is not trusted its frames are taken out, and the picture is what remains;
        where frames are kept but scripts don't run, the page shows the picture by itself. So the
        picture is seen once in every case.
        """
        picture = base64.b64encode(self._svg.encode("utf-8", "replace")).decode()
        return (
            '<div class="micrograd-player" style="position:relative;width:100%;height:640px">'
            f'<img alt="{html.escape(self._alt)}" src="data:image/svg+xml;base64,{picture}" '
            'style="max-width:100%;max-height:100%;background:#fff">'
            f'<iframe title="{html.escape(self._title)}" sandbox="allow-scripts" '
            f'srcdoc="{html.escape(self._page)}" style="position:absolute;left:0;top:0;width:100%;'
            'height:100%;border:0;background:#fff"></iframe></div>'
        )

    def __repr__(self) -> str:
        return f"<Player {self._title!r}: save('steps.html') writes the page>"


def player(root: Value, seed: float = 1.0, **drawing: Any) -> Player:
    """A page that goes through `steps(root, seed)` one by one: picture, formula, values, gradients.

    `drawing` are options of `draw`. Raises InputError (a ValueError) for more than 20,000 steps.
    """
    from importlib.resources import files  # takes a tenth of what importing the package does

    passes = steps(root, seed)
    if len(passes) > MOST_STEPS:
        raise InputError(
            f"a page shows at most {MOST_STEPS:,} steps, this graph has {len(passes):,}: "
            "steps(root) gives them as data; or play a node nearer to the inputs"
        )
    order = [event.node for event in passes.forward]
    place = {node: i for i, node in enumerate(order)}
    # What is drawn is a copy with the gradients that the steps lead to: the page takes them away
    # and gives them back one by one, in boxes that are wide enough for them.
    twins = topological_order(deepcopy(root))
    for twin, gradient in zip(twins[::-1], passes.backward, strict=True):
        twin.grad = gradient.after
    for option in ("highlight", "parameters"):
        nodes = drawing.get(option, ())
        drawing[option] = [twins[place[node]] if node in place else node for node in nodes]
    drawn = draw(twins[-1], **drawing)
    svg = drawn.svg  # before the boxes are asked for: drawing may have to merge some
    title = f"{_clean(passes.backward[0].name)}, step by step"
    alt = f"Graph of {_clean(passes.backward[0].name)}: {len(order)} nodes"
    data = {
        "nodes": [
            (
                event._writer.text(event.node),
                event.name,
                drawn.box(twins[place[event.node]]),
                [edge.operand for edge in event.edges],
            )
            for event in passes.forward
        ],
        "events": [_row(event, place) for event in passes.forward + passes.backward],
    }
    parts = {
        "title": html.escape(title),
        "alt": html.escape(alt),
        "svg": svg[max(0, svg.find("<svg")) :],  # without the XML declaration
        "data": json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"),
    }
    template = files(__package__).joinpath("player.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
    return Player(page.encode("utf-8", "replace").decode(), svg, title, alt)


def _clean(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _row(event: Forward | Backward, place: dict[Value, int]) -> tuple[Any, ...]:
    """The event for the page's script: phase, node, caption, lines, parents, changed cells."""
    k = place[event.node]
    parents = [place[edge.parent] for edge in event.edges]
    if isinstance(event, Forward):
        changes = [(k, 0, _number(event.after))]
        return 0, k, _caption(event), _forward_lines(event), parents, changes
    changes = [(k, 1, _number(event.adjoint))]
    changes += [(place[edge.parent], 1, _number(edge.after)) for edge in event.edges]
    if not event.edges:
        changes = [(k, 1, _number(event.after))]
    return 1, k, _caption(event), _backward_lines(event), parents, changes


def _number(x: float) -> tuple[str, str]:
    return numeral(x), repr(x)


def _caption(event: Forward | Backward) -> str:
    name = event._writer.text(event.node)
    if isinstance(event, Forward):
        return f"{name} is computed" if event.node.op else f"{name} is given"
    if not event.node.op:
        return f"The gradient of {name} is complete"
    parents = dict.fromkeys(edge.parent for edge in event.edges)
    receivers = [str(item) for item in _few([event._writer.text(parent) for parent in parents])]
    *others, last = receivers
    listed = f"{', '.join(others)} and {last}" if others else last
    return f"{name} hands its gradient on to {listed}"


def _forward_lines(event: Forward) -> list[_Line]:
    result: _Piece = ("result", numeral(event.after))
    if not event.node.op:
        return [("", [("", f"{event.symbols} = "), result])]
    lines: list[_Line] = [("", [("", event.symbols)])]
    if event.numbers:
        lines.append(("more", [("", f"= {event.numbers}")]))
    lines.append(("more", [("", "= "), result]))
    if not event.numbers:
        lines.append(("note", [("", _RECORDED)]))
    return lines


def _backward_lines(event: Backward) -> list[_Line]:
    writer = event._writer
    adjoint: _Piece = ("adjoint", *writer.ratio(event.node))
    shown = "adjoint" if event.node.op else "result"
    lines: list[_Line] = [("", [adjoint, ("", " = "), (shown, numeral(event.adjoint))])]
    if not event.node.op and event.before:
        grad = f"{writer.atom(event.node)}.grad"
        numbers = f"{_factor(event.before)} + {_factor(event.adjoint)} = "
        lines.append(("", [("", f"{grad} += "), adjoint]))
        lines.append(("more", [("", f"= {numbers}"), ("result", numeral(event.after))]))
    for edge in _few(event.edges):
        if isinstance(edge, str):
            lines.append(("note", [("", edge)]))
            continue
        total: _Piece = ("", *writer.ratio(edge.parent))
        local: _Piece = ("local", *edge.ratio)
        chain: list[_Piece] = [
            total, ("", " += "), adjoint, ("", " · "), local,
            ("", " =\xa0"), ("adjoint", _factor(edge.adjoint)), ("", " · "),
            ("local", _factor(edge.local)), ("", " =\xa0"), ("result", numeral(edge.contribution)),
        ]  # fmt: skip
        symbols = f"{'/'.join(edge.ratio)} = {edge.symbols}; " if edge.symbols else ""
        sums = f"{numeral(edge.before)} → {numeral(edge.after)}"
        chain.append(("note", f"{symbols}{writer.derivative(edge.parent)}: {sums}"))
        lines.append(("chain", chain))
    return lines
