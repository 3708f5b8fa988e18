"""Graphs as pictures: `draw` gives a graph's DOT source, and its SVG where a renderer is at hand.

A drawing is made of *boxes*, each of which stands for one node or for many: the nodes of a neuron
or of a layer (told by the labels that `nn` gives to parameters), nodes that do the same to the
same boxes, or the rest of a graph that is too large to draw. Everything about a box but its place
is decided here; the place is Graphviz's business.
"""

from __future__ import annotations

import base64
import html
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, overload

from .. import ops
from ..engine import Value, topological_order
from ..errors import InputError, OperandError, RendererError
from ..gradients import listed
from ..numerics import is_count
from ..state import write_atomically
from . import notation

Direction = Literal["LR", "TB"]
Collapse = Literal["auto", "none", "neuron", "layer"]

LAYOUT_SECONDS = 8.0
"""How long a renderer may take before the graph is cut to half as many boxes."""

_READABLE_BOXES = 64
_READABLE_EDGES = 400

# Arial's metrics are known to every Graphviz, so that no text overflows its box.
_FONT = "Arial"
_INK, _GREY, _LINE = "#1a1a1a", "#5f6368", "#8a8f98"

# Blue is positive, orange negative, darker is larger: told apart by colour-blind readers, and
# black is legible on all of them, in print too. The sign is in the number as well.
_POSITIVE = ("#edf4fb", "#cfe2f4", "#a3c9ea", "#74abdd")
_NEGATIVE = ("#fdf2e4", "#fbddb5", "#f7bf7e", "#ee9f4a")
_UNDEFINED = "#e3d3ea"

_LONGEST_TOOLTIP = 1000
_MANY_BOXES = 60
_MANY_OPERANDS = 7
_MANY_CONSTANTS = 6


def draw(
    roots: Value | Iterable[Value],
    *,
    direction: Direction = "LR",
    collapse: Collapse = "auto",
    show_constants: bool = True,
    highlight: Value | Iterable[Value] = (),
    max_nodes: int = 200,
    parameters: Value | Iterable[Value] = (),
) -> Drawing:
    """The graph that the roots depend on, as a picture.

    Every node shows its label (or a name such as v3), its operation, its data and its gradient
    ("–" before any backward pass); every edge its local derivative. Operations are rounded boxes,
    parameters have a double border, inputs are tags, constants have no border. A leaf is drawn as
    a parameter if it is among `parameters`, or labelled as `nn` does it, or like w1, W, b or θ.

    `collapse` draws each "neuron" or "layer" as one box, or "none"; "auto" takes the finest that
    stays readable, and the caption says what it collapsed. At most `max_nodes` boxes are drawn,
    those nearest to the roots, and one that says how many nodes there are more.
    The boxes of the nodes in `highlight` get a heavy border.

    Raises InputError (a ValueError) for options it does not know and OperandError (a TypeError)
    for roots that are not Values. Rendering, and only that, needs Graphviz: see `Drawing`.
    """
    for name, option, known in (
        ("direction", direction, ("LR", "TB")),
        ("collapse", collapse, ("auto", "none", "neuron", "layer")),
    ):
        if option not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not {option!r:.60}")
    if not is_count(max_nodes):
        raise InputError(f"max_nodes is a number of boxes, at least 1, got {max_nodes!r:.60}")
    max_nodes = int(max_nodes)  # NumPy's integers overflow, or divide into floats
    graph = _Graph(listed(roots), _values("parameters", parameters))
    plan = _plan(graph, collapse, max_nodes)
    marked = _values("highlight", highlight)

    def build(limit: int) -> tuple[str, dict[Value, str]]:
        boxes = _cut(graph, plan, limit)
        source = _source(graph, boxes, direction, show_constants, marked)
        return source, {node: box.id for box in boxes for node in box.nodes}

    return Drawing(build, min(max_nodes, len(plan)))


def _values(option: str, values: Value | Iterable[Value]) -> set[Value]:
    """What an option names. Raises OperandError for what is not a Value."""
    found = listed(values)
    for value in found:
        if not isinstance(value, Value):
            raise OperandError(f"{option} takes Values, not {value!r:.60}")
    return set(found)


class Drawing:
    """A graph in the DOT language, which Graphviz draws: `source`, `svg`, `save`, `pipe`, `render`.

    Renderers are, in this order, the program `dot` and the package of the extra `svg`; without
    either, all but `source` raises `RendererError`, which says what to install. A layout that
    takes longer than `LAYOUT_SECONDS` is given up, and the graph cut to half as many boxes; then
    `source` is what was drawn in the end. A notebook shows the picture, also where it is not run.
    """

    def __init__(
        self, build: Callable[[int], tuple[str, dict[Value, str]]], max_nodes: int
    ) -> None:
        self._build = build
        self._max_nodes = max_nodes
        self._source, self._boxes = build(max_nodes)
        self._svg = ""

    @property
    def source(self) -> str:
        """The graph in the DOT language."""
        return self._source

    @property
    def svg(self) -> str:
        """The picture as SVG; the group of a box has its id (see `box`). Raises RendererError."""
        if not self._svg:
            text = self.pipe("svg").decode("utf-8", errors="replace")
            # Some renderers escape hyphens. Viewers have Arial under one of these names.
            text = text.replace("&#45;", "-")
            fonts = f'font-family="{_FONT},Helvetica,sans-serif"'
            text = text.replace(f'font-family="{_FONT}"', fonts)
            self._svg = text
        return self._svg

    def box(self, node: Value) -> str:
        """The id, in the SVG, of the box that stands for `node`.

        It is `node-K` where the box is of that node alone, the K-th in topological order. Raises
        InputError if the node is not in the graph.
        """
        try:
            return self._boxes[node]
        except KeyError:
            raise InputError(f"{node!r} is not in this drawing") from None

    @overload
    def pipe(self, format: str = "svg", encoding: None = None) -> bytes: ...
    @overload
    def pipe(self, format: str, encoding: str) -> str: ...
    def pipe(self, format: str = "svg", encoding: str | None = None) -> bytes | str:  # noqa: A002
        """The picture in one of the renderer's formats, as bytes, or as text with an `encoding`.

        Raises RendererError.
        """
        while True:
            try:
                data = _rendered(self._source, format)
                return data.decode(encoding) if encoding else data
            except subprocess.TimeoutExpired:
                if self._max_nodes == 1:
                    raise RendererError(
                        f"Graphviz took longer than {LAYOUT_SECONDS:g} seconds for one box"
                    ) from None
                self._max_nodes = max(1, self._max_nodes // 2)
                self._source, self._boxes = self._build(self._max_nodes)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture, in the format that the suffix of `path` names (.dot: the source).

        Returns the path. Raises RendererError where the renderer cannot write that format, and
        OSError where writing fails: then a file that was there is as it was.
        """
        path = Path(path)
        suffix = path.suffix[1:].lower()
        if not suffix:
            raise InputError(f"{str(path)!r} has no suffix that says a format, such as .svg")
        if suffix in ("dot", "gv"):
            data = self._source.encode()
        else:
            data = self.svg.encode() if suffix == "svg" else self.pipe(suffix)
        write_atomically(path, data)
        return path

    def render(
        self,
        filename: str | os.PathLike[str] = "graph.gv",
        directory: str | os.PathLike[str] | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str = "svg",  # noqa: A002
    ) -> str:
        """Write the source to `filename` and the picture to `filename.format`, whose path returns.

        As in the graphviz package; `cleanup` deletes the source, `view` opens the picture.
        """
        source = Path(directory or ".") / filename
        picture = source.with_name(f"{source.name}.{format}")
        data = self.svg.encode() if format == "svg" else self.pipe(format)
        source.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(picture, data)
        if cleanup:
            source.unlink(missing_ok=True)
        else:
            write_atomically(source, self._source)
        if view:
            import graphviz

            graphviz.view(str(picture))
        return str(picture)

    def _repr_html_(self) -> str:
        # An <img> of data shows everywhere: in notebooks not yet run, exported pages, on GitHub.
        try:
            picture = base64.b64encode(self.svg.encode()).decode()
        except RendererError as error:
            return f"<p>{html.escape(str(error))}</p><pre>{html.escape(self._source)}</pre>"
        return f'<img alt="computation graph" src="data:image/svg+xml;base64,{picture}">'

    def __reduce__(self) -> tuple[type[Drawing], tuple[Any, int]]:
        """Pickled, a drawing keeps its source; it is not cut any further, and forgets its nodes."""
        return Drawing, (partial(_as_it_is, self._source), 1)

    def __repr__(self) -> str:
        return f"<Drawing of {len(self._boxes)} nodes in {len({*self._boxes.values()})} boxes>"


def _as_it_is(source: str, limit: int) -> tuple[str, dict[Value, str]]:
    return source, {}


# --- what is drawn --------------------------------------------------------------------------------


class _Graph:
    """The nodes of a graph, what they are called, and which module each of them belongs to."""

    def __init__(self, roots: list[Value], parameters: set[Value]) -> None:
        self.roots = roots
        self.order = topological_order(*roots)
        self.index = {node: i for i, node in enumerate(self.order)}
        self.names = notation.names(self.order)
        self.parameters = parameters | {
            node
            for node in self.order
            if node.op is None
            and len(node.label) <= _LONGEST_PATH
            and _PARAMETER.search(node.label)
        }
        self.uses: Counter[Value] = Counter()
        for node in self.order:
            self.uses.update(node.parents)
        self.uses.update(roots)
        self.neurons = self._neurons()
        grads = [abs(node.grad) for node in self.order if math.isfinite(node.grad)]
        self.largest_grad = max(grads, default=0.0)
        self.swept = any(node.grad != 0.0 for node in self.order if node.op is not None)

    def has_grad(self, node: Value) -> bool:
        """Whether a backward pass went through it, as far as one can see."""
        return self.swept or node.grad != 0.0

    def _neurons(self) -> dict[Value, str]:
        """The path of the neuron (or other module) that a node belongs to, where there is one.

        A neuron has the parameters that are labelled so, the sum of products with them (one node,
        or single ones), and the function that is applied to the sum, and to nothing else.
        """
        result: dict[Value, str] = {}
        sums: set[Value] = set()
        applied: dict[str, list[Value]] = {}
        for node in self.order:
            if node.op is None:
                if (
                    node in self.parameters
                    and len(node.label) <= _LONGEST_PATH
                    and (path := _MODULE_PATH.match(node.label))
                ):
                    result[node] = path[1]
                continue
            parents = node.parents
            joins = False
            owners: set[str | None] = set()
            if node.op is ops.affine_row or node.op is ops.mul:  # w·x + b, but not w·w
                mine = [p for p in parents if p.op is None and p in result]
                owners = {result[p] for p in mine}
                joins = len(mine) < len(node.operands)
            elif node.op is ops.add:  # of a product, or b, but not of the outputs of two uses
                owners = {result.get(p) for p in parents}
                terms = [p for p in parents if p in sums]
                single = any(p.op is None or p.op is ops.mul for p in parents)
                joins = len(parents) == 2 and bool(terms) and single
            if joins and len(owners) == 1 and (owner := owners.pop()) is not None:
                result[node] = owner
                sums.add(node)
            elif (
                # A function written as a call, and not the products and sums of a loss.
                node.op.binding >= 9
                and len(parents) == 1
                and parents[0] in sums
                and parents[0].op is not ops.mul
                and self.uses[parents[0]] == 1
                and not node.label
            ):
                result[node] = result[parents[0]]
                applied.setdefault(result[node], []).append(node)
        inner = {p for node in sums for p in node.parents if result.get(p) == result[node]}
        outputs = Counter(result[node] for node in sums if node not in inner)
        for owner, nodes in applied.items():
            # A neuron has one function, and applies it every time; else it is part of a loss.
            if len({node.op for node in nodes}) > 1 or len(nodes) < outputs[owner]:
                for node in nodes:
                    del result[node]
        return result


_PARAMETER = re.compile(
    r"(^|\.)(w|W|b|weight|bias|theta|θ)s?_?\d*(\[[\d, ]+\])*$|\][\w.\[\]]*\.\w+(\[\d+\])*$"
)
_MODULE_PATH = re.compile(r"(.+)\.\w+(?:\[[^\]]*\])*$", re.DOTALL)
_NEURON_PATH = re.compile(r"neurons\[\d{1,9}\]$")
_LAYER_PATH = re.compile(r"(?:(.*)\.)?neurons\[\d{1,9}\]$", re.DOTALL)
_LONGEST_PATH = 1000  # the patterns take time quadratic in a label's length


def _layer(neuron: str) -> str:
    path = _LAYER_PATH.match(neuron)
    return neuron if path is None else path[1] or "layer"


class _Box:
    """What stands for one node, or for those of a "module", for nodes "alike", or for "more"."""

    def __init__(
        self,
        id: str,  # noqa: A002
        nodes: list[Value],
        kind: str = "node",
        title: str = "",
        sources: dict[int, int] | None = None,
    ) -> None:
        self.id = id
        self.nodes = nodes
        self.kind = kind
        self.title = title
        self.sources = sources or {}  # how many edges come from the boxes at which places


def _plan(graph: _Graph, collapse: Collapse, max_nodes: int) -> list[_Box]:
    """The boxes of the finest way to draw the graph that `collapse` allows and that is readable."""
    if collapse == "none" or (collapse == "auto" and not graph.neurons):
        return _boxes(graph, {})
    by_neuron: dict[Value, Any] = dict(graph.neurons)
    by_layer: dict[Value, Any] = {node: _layer(path) for node, path in graph.neurons.items()}
    few = min(_READABLE_BOXES, max_nodes)
    if collapse == "auto":
        neurons = set(by_neuron.values())
        used_once = all(graph.uses[p] == 1 for p in by_neuron if p.op is None)
        if len(graph.order) <= few // 2:
            return _boxes(graph, {})
        if used_once and len(graph.order) - len(by_neuron) + len(neurons) <= few:
            boxes = _boxes(graph, by_neuron)
            if sum(len(box.sources) for box in boxes) <= _READABLE_EDGES:
                return boxes
    groups = by_neuron if collapse == "neuron" else by_layer
    others = len(graph.order) - len(groups)
    if others + len(set(groups.values())) > few:
        groups = groups | _alike(graph, groups)
    return _boxes(graph, groups)


def _alike(graph: _Graph, groups: dict[Value, Any]) -> dict[Value, Any]:
    """The other nodes, grouped: those that do the same to the same groups, and sums, are one."""
    result: dict[Value, Any] = {}
    roots = set(graph.roots)
    keys: dict[Any, int] = {}
    for node in graph.order:
        if node in groups or node in roots:
            continue
        stem = re.sub(r"[\d_\[].*", "", node.label, flags=re.DOTALL)
        key: Any
        if node.op is None:
            key = ("leaf", node in graph.parameters, stem)
        else:
            # A sum of many terms is one group, however it was added up.
            chained = [
                p
                for p in node.parents
                if node.op is ops.add and p.op is ops.add and graph.uses[p] == 1 and p in result
            ]
            if chained:
                result[node] = result[chained[0]]
                continue
            sources = [
                groups.get(a) or result.get(a) or graph.index[a] if isinstance(a, Value) else None
                for a in node.operands
            ]
            key = (node.op.name, stem, *sources)
        result[node] = ("alike", keys.setdefault(key, len(keys)))
    return result


def _boxes(graph: _Graph, groups: dict[Value, Any]) -> list[_Box]:
    """One box a group and one for each node without one, in the order of their first nodes."""
    places: dict[Any, int] = {}
    boxes: list[_Box] = []
    place_of: dict[Value, int] = {}
    for i, node in enumerate(graph.order):
        key = groups.get(node, node)
        place = places.setdefault(key, len(boxes))
        if place == len(boxes):
            boxes.append(_Box(f"node-{i}", []))
            if isinstance(key, str):
                boxes[-1].kind, boxes[-1].title = "module", key
            elif key is not node:
                boxes[-1].kind = "alike"
        place_of[node] = place
        boxes[place].nodes.append(node)
        sources = boxes[place].sources
        for parent in node.parents:
            source = place_of[parent]
            if source != place:
                sources[source] = sources.get(source, 0) + 1
    for box in boxes:
        if box.kind == "alike" and len(box.nodes) == 1:
            box.kind = "node"
        elif box.kind != "node":
            box.id = f"box-{box.id.removeprefix('node-')}"
    return boxes


def _cut(graph: _Graph, boxes: list[_Box], limit: int) -> list[_Box]:
    """The `limit` boxes nearest to the roots, and one for the rest. Their `sources` are places."""
    if len(boxes) <= limit:
        return boxes
    place_of = {node: i for i, box in enumerate(boxes) for node in box.nodes}
    queue = deque(dict.fromkeys(place_of[root] for root in graph.roots))
    kept: dict[int, None] = {}
    met = set(queue)
    while queue and len(kept) < limit:
        place = queue.popleft()
        kept[place] = None
        for source in boxes[place].sources:
            if source not in met:
                met.add(source)
                queue.append(source)
    places = sorted(kept)
    new_place = {place: i + 1 for i, place in enumerate(places)}  # the rest comes first
    rest = _Box(
        "more", [node for i, box in enumerate(boxes) if i not in kept for node in box.nodes]
    )
    rest.kind = "more"
    result = [rest]
    for place in places:
        box = boxes[place]
        sources: Counter[int] = Counter()
        for source, count in box.sources.items():
            sources[new_place.get(source, 0)] += count
        result.append(_Box(box.id, box.nodes, box.kind, box.title, dict(sources)))
    return result


# --- how it is drawn ------------------------------------------------------------------------------


def _source(
    graph: _Graph,
    boxes: list[_Box],
    direction: Direction,
    show_constants: bool,
    highlight: set[Value],
) -> str:
    import graphviz

    dot = graphviz.Digraph(
        graph_attr={
            "rankdir": direction, "fontname": _FONT, "fontsize": "11", "fontcolor": _GREY,
            "nodesep": "0.2", "ranksep": "0.45", "bgcolor": "white",
        },
        node_attr={"fontname": _FONT, "fontsize": "12", "fontcolor": _INK, "color": _LINE,
                   "shape": "plain"},
        edge_attr={"fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "color": _LINE,
                   "arrowsize": "0.6"},
    )  # fmt: skip
    caption = _caption(graph, boxes)
    if caption:
        dot.attr(label=graphviz.escape(_clean(caption)), labelloc="b")
    dense = sum(len(box.sources) for box in boxes) > _READABLE_BOXES
    if len(boxes) > _MANY_BOXES:  # else the layout would look for the best place for minutes
        dot.attr(nslimit="1", nslimit1="1")
        uses = Counter(source for box in boxes for source in box.sources)
        if max(uses.values(), default=0) > _MANY_BOXES // 2:
            dot.attr(splines="line")  # long curves around all others take the longest
    if dense and any(box.kind == "module" for box in boxes):
        tail, head = ("e", "w") if direction == "LR" else ("s", "n")
        dot.attr(ranksep="1.6", splines="line")
        dot.attr("edge", tailport=tail, headport=head)
    for box in boxes:
        bold = not highlight.isdisjoint(box.nodes)
        label, attributes = _LABELS[box.kind](graph, box, bold)
        tooltip = graphviz.escape(_entities(_tooltip(graph, box)))
        dot.node(box.id, f"<{label}>", id=box.id, tooltip=tooltip, **attributes)
    _align_layers(dot, boxes)
    place_of = {node: i for i, box in enumerate(boxes) for node in box.nodes}
    for i, box in enumerate(boxes):
        if box.kind != "node":
            for source, count in box.sources.items():
                _group_edge(dot, boxes[source], box, count, dense)
            continue
        (node,) = box.nodes
        local = iter(node.local_grads)
        drawn: set[int] = set()
        constants = [a for a in node.operands if not isinstance(a, Value)]
        if show_constants and len(constants) > _MANY_CONSTANTS:
            name = f"const-{graph.index[node]}"
            _constant(dot, box, name, f"{len(constants):,} numbers", repr(constants[:99]), name)
        for k, operand in enumerate(node.operands):
            if not isinstance(operand, Value):
                if show_constants and len(constants) <= _MANY_CONSTANTS:
                    place = f"{graph.index[node]}-{k}"
                    about = repr(operand)
                    text = notation.numeral(operand)
                    _constant(dot, box, f"const-{place}", text, about, f"edge-{place}")
                continue
            d = next(local)
            source = place_of[operand]
            if boxes[source].kind == "node" and boxes[i].sources[source] <= _MANY_OPERANDS:
                about = f"∂{graph.names[node]}/∂{graph.names[operand]} = {d!r}"
                dot.edge(
                    boxes[source].id,
                    box.id,
                    id=f"edge-{graph.index[node]}-{k}",
                    label=notation.numeral(d),
                    edgetooltip=graphviz.escape(_entities(about)),
                    labeltooltip=graphviz.escape(_entities(about)),
                )
            elif source not in drawn:
                drawn.add(source)
                _group_edge(dot, boxes[source], box, boxes[i].sources[source], dense)
    return str(dot.source)


def _align_layers(dot: Any, boxes: list[_Box]) -> None:
    """Have a layer's neurons stand in order: invisible edges lead from each to the next."""
    layers: dict[str, list[_Box]] = {}
    for box in boxes:
        if box.kind == "module" and _NEURON_PATH.search(box.title):
            layers.setdefault(_layer(box.title), []).append(box)
    for neurons in layers.values():
        if len(neurons) == 1:
            continue
        neurons.sort(key=lambda box: int(box.title.rpartition("[")[2][:-1]))
        with dot.subgraph() as row:
            row.attr(rank="same")
            for box, following in pairwise(neurons):
                row.edge(box.id, following.id, style="invis")


def _constant(dot: Any, box: _Box, name: str, text: str, about: str, edge: str) -> None:
    attributes = {
        "shape": "plaintext", "margin": "0.03", "width": "0", "height": "0",
        "fontsize": "10", "fontcolor": _GREY,
    }  # fmt: skip
    dot.node(name, text, id=name, tooltip=about, **attributes)
    dot.edge(name, box.id, id=edge, style="dashed", tooltip="constant")


def _group_edge(dot: Any, source: _Box, target: _Box, count: int, dense: bool) -> None:
    attributes = {"color": "#c4c8ce", "arrowsize": "0.4"} if dense else {}
    about = f"{count:,} edge{'s' if count > 1 else ''}"
    style = "dashed" if source.kind == "more" else "solid"
    dot.edge(source.id, target.id, edgetooltip=about, style=style, **attributes)


def _node_label(graph: _Graph, box: _Box, bold: bool) -> tuple[str, dict[str, str]]:
    (node,) = box.nodes
    name = _shown(graph.names[node])
    if node.op is None or node.label:
        name = f"<b>{name}</b>"
    has = graph.has_grad(node)
    grad = notation.numeral(node.grad) if has else "–"
    color = _shade(node.grad, graph.largest_grad) if has else "#ffffff"
    numbers = (
        f"<td>{_small('data')}&#160;{notation.numeral(node.data)}</td>"
        f'<td bgcolor="{color}">{_small("grad")}&#160;{grad}</td>'
    )
    if node.op is not None:
        title = f"{name}&#160;= {_shown(_formula(graph, node), 34)}"
        return _rounded(f'<tr><td colspan="2">{title}</td></tr><hr/><tr>{numbers}</tr>', bold), {}
    table = (
        '<table border="0" cellborder="0" cellspacing="0" cellpadding="3">'
        f'<tr><td colspan="2">{name}</td></tr><tr>{numbers}</tr></table>'
    )
    attributes = {"style": "filled", "fillcolor": "white", "margin": "0.06,0.03"}
    if bold:
        attributes |= _BOLD
    if node in graph.parameters:
        return table, {"shape": "box", "peripheries": "2", **attributes}
    return table, {"shape": "cds", **attributes, "margin": "0.2,0.1"}


_BOLD: Final = {"penwidth": "3", "color": _INK}


def _module_label(graph: _Graph, box: _Box, bold: bool) -> tuple[str, dict[str, str]]:
    leaves = [node for node in box.nodes if node.op is None]
    sums = [node for node in box.nodes if node.op is ops.affine_row]
    activations = {node.op.name for node in box.nodes if node.op and node.op.binding >= 9}
    activations -= {"affine"}
    neurons = {graph.neurons[node] for node in leaves}
    what = []
    if not _NEURON_PATH.search(box.title):
        what.append(f"{len(neurons)} neuron{'s' if len(neurons) > 1 else ''}")
    what += sorted(activations)
    inputs = {len(node.operands) // 2 for node in sums}
    if len(inputs) == 1:
        what.append(f"{(n := inputs.pop())} input{'s' if n > 1 else ''}")
    parameters = f"{len(leaves):,} parameter{'s' if len(leaves) != 1 else ''}"
    uses = len(sums) // len(neurons) if neurons else 0
    if uses > 1:
        parameters += f", used {uses:,} times"
    if _NEURON_PATH.search(box.title):  # there may be many: a line less makes a picture less tall
        lines = [", ".join([*what, parameters])]
    else:
        lines = [", ".join(what), parameters]
    return _summary(graph, f"<b>{_shown(box.title)}</b>", lines, leaves, bold)


def _alike_label(graph: _Graph, box: _Box, bold: bool) -> tuple[str, dict[str, str]]:
    node, count = box.nodes[-1], len(box.nodes)
    if node.op is None:
        stem = re.sub(r"[\d_\[].*", "", node.label, flags=re.DOTALL)
        kind = "parameters" if node in graph.parameters else "inputs"
        title = f"{count:,} {kind} {_shown(stem)}"
    elif any(p in box.nodes for p in node.parents):
        title = f"Σ: {count:,} additions"
    else:
        title = f"{count:,} × {_shown(_generic(node))}"
    return _summary(graph, title, [], box.nodes, bold)


def _summary(
    graph: _Graph, title: str, lines: list[str], nodes: Sequence[Value], bold: bool
) -> tuple[str, dict[str, str]]:
    norm = math.hypot(*(node.grad for node in nodes))
    has = any(map(graph.has_grad, nodes))
    color = _shade(norm, graph.largest_grad * math.sqrt(len(nodes))) if has else "#ffffff"
    shown = notation.numeral(norm) if has else "–"
    rows = "".join(f"<tr><td>{_small(_shown(line))}</td></tr>" for line in lines)
    grad = f'<tr><td bgcolor="{color}">{_small("‖grad‖")}&#160;{shown}</td></tr>'
    return _rounded(f"<tr><td>{title}</td></tr>{rows}<hr/>{grad}", bold, "#f1f3f4"), {}


def _more_label(graph: _Graph, box: _Box, bold: bool) -> tuple[str, dict[str, str]]:
    count = len(box.nodes)
    attributes = {"shape": "box", "style": "dashed,rounded", "fontcolor": _GREY}
    return f"… {count:,} more node{'s' if count > 1 else ''}", attributes


_LABELS: Final = {
    "node": _node_label,
    "module": _module_label,
    "alike": _alike_label,
    "more": _more_label,
}


def _rounded(rows: str, bold: bool, color: str = "#ffffff") -> str:
    border = f'border="3" color="{_INK}"' if bold else f'border="1" color="{_LINE}"'
    return (
        f'<table {border} cellborder="0" cellspacing="3" cellpadding="2" style="rounded" '
        f'bgcolor="{color}">{rows}</table>'
    )


def _small(text: str) -> str:
    return f'<font point-size="9" color="{_GREY}">{text}</font>'


def _formula(graph: _Graph, node: Value) -> str:
    """The operation, with the names of what it was applied to if there is room for them."""
    assert node.op is not None
    if len(node.operands) > _MANY_OPERANDS:
        return _generic(node)
    operands = [
        (graph.names[a], 9.0) if isinstance(a, Value) else (notation.numeral(a), 9.0)
        for a in node.operands
    ]
    written = notation.write(node.op, operands)
    return written if len(written) <= 34 else _generic(node)


def _generic(node: Value) -> str:
    """The operation as its row writes it: w·x + b, x - y, tanh(x)."""
    assert node.op is not None
    if node.op.arity is None and "@" in node.op.text:
        return f"{node.op.name}(…)"
    if node.op.arity is None:
        weights = node.operands[: len(node.operands) // 2]
        return "Σ x" if all(w == 1.0 for w in weights) else node.op.text
    letters = dict(zip(dict.fromkeys(node.parents), "xyzuvwabcd", strict=False))
    operands = [
        (letters.get(a, "…") if isinstance(a, Value) else notation.numeral(a), 9.0)
        for a in node.operands
    ]
    return notation.write(node.op, operands)


def _tooltip(graph: _Graph, box: _Box) -> str:
    if box.kind != "node":
        return f"{len(box.nodes):,} nodes"
    (node,) = box.nodes
    grad = repr(node.grad) if graph.has_grad(node) else "–"
    formula = f" = {_formula(graph, node)}" if node.op is not None else ""
    return f"{graph.names[node]}{formula}\ndata = {node.data!r}\ngrad = {grad}"


def _caption(graph: _Graph, boxes: list[_Box]) -> str:
    modules = [box for box in boxes if box.kind == "module"]
    notes = []
    if modules:
        layers = any(len({graph.neurons[n] for n in box.nodes}) > 1 for box in modules)
        kind = "layer" if layers else "module"
        if all(_NEURON_PATH.search(box.title) for box in modules):
            kind = "neuron"
        notes.append(f"each {kind} as one box")
    if any(box.kind == "alike" for box in boxes):
        notes.append("like operations together")
    if boxes and boxes[0].kind == "more":
        notes.append(f"the {len(boxes) - 1:,} boxes nearest to the result")
    if not notes:
        return ""
    return f"{len(graph.order):,} nodes: {'; '.join(notes)}"


def _shade(x: float, largest: float) -> str:
    """A background that tells sign and magnitude, as a share of the largest."""
    if not math.isfinite(x):
        return _UNDEFINED
    if x == 0.0 or largest == 0.0:
        return "#ffffff"
    share = min(1.0, math.sqrt(abs(x) / largest))
    palette = _POSITIVE if x > 0.0 else _NEGATIVE
    return palette[min(int(share * len(palette)), len(palette) - 1)]


def _clean(text: str) -> str:
    """`text` in one line, without what XML or UTF-8 cannot hold."""
    text = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", " ")
    return "".join(
        c if c.isprintable() or c in "\u200c\u200d\u200e\u200f" else "\ufffd" for c in text
    )


def _shown(text: str, length: int = 44) -> str:
    """`text` as part of a label in Graphviz's HTML: escaped, and no longer than `length`."""
    text = _clean(text)
    if len(text) > length:
        text = f"{text[: length - 1]}…"
    # Graphviz replaces \\N and the like even here; a doubled backslash is one. A text of nothing
    # but closing brackets is a syntax error to it.
    text = html.escape(text, quote=True).replace("\\", "\\\\")
    return text if text.strip("]") else text.replace("]", "&#93;")


def _entities(text: str) -> str:
    """`text` for an attribute that is shown, where Graphviz decodes HTML's entities.

    It takes no more than 16,384 characters for a string.
    """
    if len(text) > _LONGEST_TOOLTIP:
        text = f"{text[:_LONGEST_TOOLTIP]}…"
    text = "\n".join(_clean(line) for line in text.split("\n"))
    # Backslashes are read twice there: as escapes of the string, and as \\G, \\N and the like.
    return text.replace("&", "&amp;").replace("\\", "\\\\")


# --- renderers ------------------------------------------------------------------------------------


def _renderer() -> str:
    """The path of `dot`, or of the program of the `svg` extra. Raises RendererError."""
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    if found is None:  # an environment's programs need not be on PATH
        for folder in (Path(sys.executable).parent, sysconfig.get_path("scripts")):
            found = found or shutil.which("graphviz-pure", path=str(folder))
    if found is None:
        raise RendererError(
            "drawing needs Graphviz: install it (apt install graphviz, brew install graphviz), "
            "or pip install 'micrograd_like[svg]', which brings a port; .source works without"
        )
    return found


def _rendered(source: str, format: str) -> bytes:  # noqa: A002
    """What the renderer makes of it. Raises RendererError, and TimeoutExpired after the limit."""
    program = _renderer()
    if not re.fullmatch(r"[a-z0-9_.:-]+", format):
        raise RendererError(f"{format!r:.60} is not a format of Graphviz")
    resolution = ["-Gdpi=144"] if format in ("png", "jpg", "jpeg", "webp", "gif") else []
    done = subprocess.run(
        [program, f"-T{format}", *resolution],
        input=source.encode("utf-8", errors="replace"),
        capture_output=True,
        timeout=LAYOUT_SECONDS,
        check=False,
    )
    if done.returncode == 0 and done.stdout:
        return done.stdout
    problem = done.stderr.decode("utf-8", errors="replace").strip()
    name = Path(program).stem
    if known := re.search(r"not recognized.*Use one of:([^\n]*)", problem):
        formats = [f for f in ("svg", "png", "pdf", "jpg") if f in known[1].split()]
        remedy = "" if name == "dot" else "; Graphviz's own dot writes more"
        raise RendererError(
            f"{name} cannot write {format!r}: it writes {', '.join(formats)} "
            f"(and .dot is the source){remedy}"
        )
    raise RendererError(f"{name} failed with status {done.returncode}: {problem[:500]}")
