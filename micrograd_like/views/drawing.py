"""Graphs as pictures: `draw` gives a graph's DOT source, and its SVG where a renderer is at hand.

Everything about a picture but where things stand is decided here, and in `boxes` which things
there are. The place is Graphviz's business.
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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from .. import ops
from ..engine import Value
from ..errors import InputError, OperandError, RendererError
from ..gradients import listed
from ..numerics import is_count
from ..state import write_atomically
from .algebra import formula
from .boxes import Box, Collapse, Graph, box_count, grouped, is_neuron, layer_of, planned, stem
from .names import numeral

if TYPE_CHECKING:
    from graphviz import Source

Direction = Literal["LR", "TB"]

LAYOUT_SECONDS = 8.0
"""How long a renderer may take before the graph is cut to half as many boxes."""

# Arial's metrics are known to every Graphviz, so that no text overflows its box.
_FONT = "Arial"
INK, _GREY, _LINE = "#1a1a1a", "#5f6368", "#8a8f98"

# Blue is positive, orange negative, darker is larger: told apart by colour-blind readers, and
# black is legible on all of them, in print too. The sign is in the number as well.
POSITIVE = ("#edf4fb", "#cfe2f4", "#a3c9ea", "#74abdd")
NEGATIVE = ("#fdf2e4", "#fbddb5", "#f7bf7e", "#ee9f4a")
UNDEFINED = "#e3d3ea"

_LONGEST_TOOLTIP = 1000
_LONGEST_FORMULA = 34
_MANY_BOXES = 60
_MANY_EDGES = 64
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
        ("direction", direction, get_args(Direction)),
        ("collapse", collapse, get_args(Collapse)),
    ):
        if option not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not {option!r:.60}")
    if not is_count(max_nodes):
        raise InputError(f"max_nodes is a number of boxes, at least 1, got {max_nodes!r:.60}")
    max_nodes = int(max_nodes)  # NumPy's integers overflow, or divide into floats
    graph = Graph(listed(roots), _values("parameters", parameters))
    groups = grouped(graph, collapse, max_nodes)
    marked = _values("highlight", highlight)

    def drawn(limit: int) -> Drawing:
        picture = _Picture(graph, planned(graph, groups, limit), marked)
        source = picture.source(direction, show_constants)
        ids = {node: box.id for node, box in picture.box_of.items()}
        return Drawing(source, ids, partial(drawn, limit // 2) if limit > 1 else None)

    return drawn(min(max_nodes, box_count(graph, groups)))


def _values(option: str, values: Value | Iterable[Value]) -> set[Value]:
    """What an option names. Raises OperandError for what is not a Value."""
    found = listed(values)
    for value in found:
        if not isinstance(value, Value):
            raise OperandError(f"{option} takes Values, not {value!r:.60}")
    return set(found)


class Drawing:
    """A picture of a graph: `source` is its text in the DOT language, `svg` what Graphviz draws.

    `save` writes a file, a notebook shows the picture by itself, and `graphviz` has what else the
    graphviz package can do. Renderers are, in this order, the program `dot` and the package of the
    extra `svg`; without either, all but `source` and `graphviz` raises `RendererError`, which says
    what to install. A layout that takes longer than `LAYOUT_SECONDS` is given up, and the graph
    cut to half as many boxes; then `source` is what was drawn in the end.
    """

    def __init__(
        self, source: str, boxes: dict[Value, str], smaller: Callable[[], Drawing] | None = None
    ) -> None:
        self.source = source
        self._boxes = boxes  # their ids
        self._smaller = smaller

    @cached_property
    def svg(self) -> str:
        """The picture as SVG; the group of a box has its id (see `box`). Raises RendererError."""
        # Some renderers escape hyphens. Viewers have Arial under one of these names.
        text = self._rendered("svg").decode("utf-8", errors="replace").replace("&#45;", "-")
        fonts = f'font-family="{_FONT},Helvetica,sans-serif"'
        return text.replace(f'font-family="{_FONT}"', fonts)

    @property
    def graphviz(self) -> Source:
        """The source as an object of the graphviz package, with its `pipe`, `render` and `view`.

        These need the program `dot`.
        """
        import graphviz

        return graphviz.Source(self.source)

    def box(self, node: Value) -> str:
        """The id, in the SVG, of the box that stands for `node`.

        It is `node-K` where the box is of that node alone, the K-th in topological order. Raises
        InputError if the node is not in the graph.
        """
        try:
            return self._boxes[node]
        except KeyError:
            raise InputError(f"{node!r} is not in this drawing") from None

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
            write_atomically(path, self.source)
        else:
            write_atomically(path, self.svg if suffix == "svg" else self._rendered(suffix))
        return path

    def _rendered(self, suffix: str) -> bytes:
        while True:
            try:
                return rendered(self.source, suffix)
            except subprocess.TimeoutExpired:
                if self._smaller is None:
                    raise RendererError(
                        f"Graphviz took longer than {LAYOUT_SECONDS:g} seconds for one box"
                    ) from None
                cut = self._smaller()
                self.source, self._boxes, self._smaller = cut.source, cut._boxes, cut._smaller

    def _repr_html_(self) -> str:
        # An <img> of data shows everywhere: in notebooks not yet run, exported pages, on GitHub.
        try:
            picture = base64.b64encode(self.svg.encode()).decode()
        except RendererError as error:
            return f"<p>{html.escape(str(error))}</p><pre>{html.escape(self.source)}</pre>"
        return f'<img alt="computation graph" src="data:image/svg+xml;base64,{picture}">'

    def __reduce__(self) -> tuple[type[Drawing], tuple[str, dict[Value, str]]]:
        """Pickled, a drawing keeps its source; it is not cut any further, and forgets its nodes."""
        return Drawing, (self.source, {})

    def __repr__(self) -> str:
        return f"<Drawing of {len(self._boxes)} nodes in {len({*self._boxes.values()})} boxes>"


class _Picture:
    """Writes boxes in the DOT language."""

    def __init__(self, graph: Graph, boxes: list[Box], highlight: set[Value]) -> None:
        self.graph = graph
        self.boxes = boxes
        self.box_of = {node: box for box in boxes for node in box.nodes}
        self.highlight = highlight
        grads = [abs(node.grad) for node in graph.order if math.isfinite(node.grad)]
        self.largest_grad = max(grads, default=0.0)
        self.swept = any(node.grad != 0.0 for node in graph.order if node.op is not None)
        self.dense = sum(len(box.sources) for box in boxes) > _MANY_EDGES

    def source(self, direction: Direction, show_constants: bool) -> str:
        import graphviz

        self.dot = dot = graphviz.Digraph(
            graph_attr={
                "rankdir": direction, "fontname": _FONT, "fontsize": "11", "fontcolor": _GREY,
                "nodesep": "0.2", "ranksep": "0.45", "bgcolor": "white",
            },
            node_attr={"fontname": _FONT, "fontsize": "12", "fontcolor": INK, "color": _LINE,
                       "shape": "plain"},
            edge_attr={"fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "color": _LINE,
                       "arrowsize": "0.6"},
        )  # fmt: skip
        if caption := self._caption():
            dot.attr(label=graphviz.escape(_clean(caption)), labelloc="b")
        if len(self.boxes) > _MANY_BOXES:  # else it would look for the best place for minutes
            dot.attr(nslimit="1", nslimit1="1")
            uses = Counter(source for box in self.boxes for source in box.sources)
            if max(uses.values(), default=0) > _MANY_BOXES // 2:
                dot.attr(splines="line")  # long curves around all others take the longest
        if self.dense and any(box.kind == "module" for box in self.boxes):
            tail, head = ("e", "w") if direction == "LR" else ("s", "n")
            dot.attr(ranksep="1.6", splines="line")
            dot.attr("edge", tailport=tail, headport=head)
        for box in self.boxes:
            label, attributes = self._label(box)
            tip = _tip(self._about(box))
            dot.node(box.id, f"<{label}>", id=box.id, tooltip=tip, **attributes)
        self._align_layers()
        for box in self.boxes:
            if box.kind == "node":
                self._edges(box, show_constants)
            else:
                for source in box.sources:
                    self._edge_of_many(source, box)
        return str(dot.source)

    def _edges(self, box: Box, show_constants: bool) -> None:
        """The edges to a node's box, and its constants."""
        (node,) = box.nodes
        graph, place = self.graph, self.graph.index[node]
        constants = [a for a in node.operands if not isinstance(a, Value)]
        many = len(constants) > _MANY_CONSTANTS
        if show_constants and many:
            name, text = f"const-{place}", f"{len(constants):,} numbers"
            self._constant(box, name, name, text, repr(constants[:99]))
        edges = iter(node.edges)
        drawn: set[Box] = set()
        for k, operand in enumerate(node.operands):
            edge = f"edge-{place}-{k}"
            if not isinstance(operand, Value):
                if show_constants and not many:
                    name = f"const-{place}-{k}"
                    self._constant(box, name, edge, numeral(operand), repr(operand))
                continue
            parent, d = next(edges)
            source = self.box_of[parent]
            if source.kind == "node" and box.sources[source] <= _MANY_OPERANDS:
                tip = _tip(f"∂{graph.names[node]}/∂{graph.names[parent]} = {d!r}")
                self.dot.edge(
                    source.id, box.id, id=edge, label=numeral(d), edgetooltip=tip, labeltooltip=tip
                )
            elif source not in drawn:
                drawn.add(source)
                self._edge_of_many(source, box)

    def _constant(self, box: Box, name: str, edge: str, text: str, about: str) -> None:
        self.dot.node(
            name, text, id=name, tooltip=about, shape="plaintext", margin="0.03", width="0",
            height="0", fontsize="10", fontcolor=_GREY,
        )  # fmt: skip
        self.dot.edge(name, box.id, id=edge, style="dashed", tooltip="constant")

    def _edge_of_many(self, source: Box, box: Box) -> None:
        """The edge that stands for all those from one box to another."""
        attributes = {"color": "#c4c8ce", "arrowsize": "0.4"} if self.dense else {}
        about = _counted(box.sources[source], "edge")
        style = "dashed" if source.kind == "more" else "solid"
        self.dot.edge(source.id, box.id, edgetooltip=about, style=style, **attributes)

    def _align_layers(self) -> None:
        """Have a layer's neurons stand in order: invisible edges lead from each to the next."""
        layers: dict[str, list[Box]] = {}
        for box in self.boxes:
            if is_neuron(box.title):
                layers.setdefault(layer_of(box.title), []).append(box)
        for neurons in layers.values():
            if len(neurons) > 1:
                neurons.sort(key=lambda box: int(box.title.rpartition("[")[2][:-1]))
                with self.dot.subgraph() as row:
                    row.attr(rank="same")
                    for box, following in pairwise(neurons):
                        row.edge(box.id, following.id, style="invis")

    # --- what a box says ---

    def _label(self, box: Box) -> tuple[str, dict[str, str]]:
        """A box's label, in Graphviz's HTML, and its other attributes."""
        if box.kind == "node":
            return self._label_of_node(box)
        if box.kind == "more":
            attributes = {"shape": "box", "style": "dashed,rounded", "fontcolor": _GREY}
            return f"… {_counted(len(box.nodes), 'more node')}", attributes
        if box.kind == "module":
            title, nodes = f"<b>{_shown(box.title)}</b>", [n for n in box.nodes if n.op is None]
            lines = self._about_module(box, nodes)
        else:
            title, nodes, lines = self._title_of_alike(box), box.nodes, []
        norm = math.hypot(*(node.grad for node in nodes))
        largest = self.largest_grad * math.sqrt(len(nodes))
        grad = self._gradient("‖grad‖", norm, largest, any(map(self._has_grad, nodes)))
        rows = "".join(f"<tr><td>{_small(_shown(line))}</td></tr>" for line in lines)
        return self._rounded(
            box, f"<tr><td>{title}</td></tr>{rows}<hr/><tr>{grad}</tr>", "#f1f3f4"
        ), {}

    def _label_of_node(self, box: Box) -> tuple[str, dict[str, str]]:
        (node,) = box.nodes
        name = _shown(self.graph.names[node])
        if node.op is None or node.label:
            name = f"<b>{name}</b>"
        grad = self._gradient("grad", node.grad, self.largest_grad, self._has_grad(node))
        numbers = f"<tr><td>{_small('data')}&#160;{numeral(node.data)}</td>{grad}</tr>"
        if node.op is not None:
            title = f"{name}&#160;= {_shown(self._formula(node), _LONGEST_FORMULA)}"
            return self._rounded(box, f'<tr><td colspan="2">{title}</td></tr><hr/>{numbers}'), {}
        table = (
            '<table border="0" cellborder="0" cellspacing="0" cellpadding="3">'
            f'<tr><td colspan="2">{name}</td></tr>{numbers}</table>'
        )
        attributes = {"shape": "cds", "style": "filled", "fillcolor": "white", "margin": "0.2,0.1"}
        if node in self.graph.parameters:
            attributes |= {"shape": "box", "peripheries": "2", "margin": "0.06,0.03"}
        if node in self.highlight:
            attributes |= {"penwidth": "3", "color": INK}
        return table, attributes

    def _about_module(self, box: Box, parameters: Sequence[Value]) -> list[str]:
        """What there is in a module: its neurons, function and inputs, and its parameters."""
        sums = [node for node in box.nodes if node.op is ops.affine_row]
        functions = {
            node.op.name
            for node in box.nodes
            if node.op and node.op.binding >= 9 and node.op is not ops.affine_row
        }
        neurons = {self.graph.modules[node] for node in parameters}
        inputs = {len(node.operands) // 2 for node in sums}
        lone = is_neuron(box.title)
        what = [] if lone else [_counted(len(neurons), "neuron")]
        what += sorted(functions)
        if len(inputs) == 1:
            what.append(_counted(inputs.pop(), "input"))
        counted = _counted(len(parameters), "parameter")
        uses = len(sums) // len(neurons) if neurons else 0
        if uses > 1:
            counted += f", used {uses:,} times"
        # There may be many neurons: a line less makes a picture less tall.
        return [", ".join([*what, counted])] if lone else [", ".join(what), counted]

    def _title_of_alike(self, box: Box) -> str:
        node, count = box.nodes[-1], len(box.nodes)
        if node.op is None:
            kind = "parameters" if node in self.graph.parameters else "inputs"
            return f"{count:,} {kind} {_shown(stem(node.label))}"
        if any(p in box.nodes for p in node.parents):
            return f"Σ: {count:,} additions"
        return f"{count:,} × {_shown(_generic(node))}"

    def _has_grad(self, node: Value) -> bool:
        """Whether a backward pass went through it, as far as one can see."""
        return self.swept or node.grad != 0.0

    def _gradient(self, head: str, x: float, largest: float, known: bool) -> str:
        """The cell with a gradient, whose colour tells its sign and its share of the largest."""
        color = "#ffffff"
        if known and not math.isfinite(x):
            color = UNDEFINED
        elif known and x != 0.0 and largest != 0.0:
            share = min(1.0, math.sqrt(abs(x) / largest))
            palette = POSITIVE if x > 0.0 else NEGATIVE
            color = palette[min(int(share * len(palette)), len(palette) - 1)]
        shown = numeral(x) if known else "–"
        return f'<td bgcolor="{color}">{_small(head)}&#160;{shown}</td>'

    def _rounded(self, box: Box, rows: str, color: str = "#ffffff") -> str:
        bold = not self.highlight.isdisjoint(box.nodes)
        border = f'border="3" color="{INK}"' if bold else f'border="1" color="{_LINE}"'
        return (
            f'<table {border} cellborder="0" cellspacing="3" cellpadding="2" style="rounded" '
            f'bgcolor="{color}">{rows}</table>'
        )

    def _formula(self, node: Value) -> str:
        """The operation, with the names of what it was applied to if there is room for them."""
        assert node.op is not None
        if len(node.operands) > _MANY_OPERANDS:
            return _generic(node)
        written = formula(node, self.graph.names, digits=4)
        return written if len(written) <= _LONGEST_FORMULA else _generic(node)

    def _about(self, box: Box) -> str:
        """What the tooltip of a box says."""
        if box.kind != "node":
            return f"{len(box.nodes):,} nodes"
        (node,) = box.nodes
        formula = f" = {self._formula(node)}" if node.op is not None else ""
        grad = repr(node.grad) if self._has_grad(node) else "–"
        return f"{self.graph.names[node]}{formula}\ndata = {node.data!r}\ngrad = {grad}"

    def _caption(self) -> str:
        """What was drawn together or left out; "" if nothing was."""
        modules = [box for box in self.boxes if box.kind == "module"]
        notes = []
        if modules:
            neurons = [len({self.graph.modules[n] for n in box.nodes}) for box in modules]
            kind = "layer" if max(neurons) > 1 else "module"
            kind = "neuron" if all(is_neuron(box.title) for box in modules) else kind
            notes.append(f"each {kind} as one box")
        if any(box.kind == "alike" for box in self.boxes):
            notes.append("like operations together")
        if self.boxes and self.boxes[0].kind == "more":
            notes.append(f"the {len(self.boxes) - 1:,} boxes nearest to the result")
        return f"{len(self.graph.order):,} nodes: {'; '.join(notes)}" if notes else ""


def _generic(node: Value) -> str:
    """The operation in general terms: w·x + b, x - y, tanh(x)."""
    assert node.op is not None
    if node.op.arity is None and "@" in node.op.text:
        return f"{node.op.name}(…)"
    if node.op.arity is None:
        weights = node.operands[: len(node.operands) // 2]
        return "Σ x" if all(w == 1.0 for w in weights) else node.op.text
    letters = zip(dict.fromkeys(node.parents), chain("xyzuvwabcd", repeat("…")), strict=False)
    return formula(node, dict(letters), digits=4)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _small(text: str) -> str:
    return f'<font point-size="9" color="{_GREY}">{text}</font>'


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


def _tip(text: str) -> str:
    """`text` for a tooltip, in which Graphviz decodes HTML's entities.

    It takes no more than 16,384 characters for a string.
    """
    import graphviz

    if len(text) > _LONGEST_TOOLTIP:
        text = f"{text[:_LONGEST_TOOLTIP]}…"
    text = "\n".join(_clean(line) for line in text.split("\n"))
    # Backslashes are read twice there: as escapes of the string, and as \\G, \\N and the like.
    return str(graphviz.escape(text.replace("&", "&amp;").replace("\\", "\\\\")))


# --- renderers ------------------------------------------------------------------------------------


def renderer() -> str:
    """The path of `dot`, or of the program of the `svg` extra. Raises RendererError."""
    # An environment's programs need not be on PATH.
    beside = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    port = "graphviz-pure"
    found = shutil.which("dot") or shutil.which(port) or shutil.which(port, path=beside)
    if found is None:
        raise RendererError(
            "drawing needs Graphviz: install it (apt install graphviz, brew install graphviz), "
            "or pip install 'micrograd_like[svg]', which brings a port; .source works without"
        )
    return found


def rendered(source: str, suffix: str) -> bytes:
    """What the renderer makes of a source, in the format of a suffix.

    Raises RendererError, and TimeoutExpired after the limit.
    """
    program = renderer()
    if not re.fullmatch(r"[a-z0-9_.:-]+", suffix):
        raise RendererError(f"{suffix!r:.60} is not a format of Graphviz")
    resolution = ["-Gdpi=144"] if suffix in ("png", "jpg", "jpeg", "webp", "gif") else []
    done = subprocess.run(
        [program, f"-T{suffix}", *resolution],
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
            f"{name} cannot write {suffix!r}: it writes {', '.join(formats)} "
            f"(and .dot is the source){remedy}"
        )
    raise RendererError(f"{name} failed with status {done.returncode}: {problem[:500]}")
