"""Graphs as pictures: `draw` gives a graph's DOT source, and its SVG where a renderer is at hand.

Everything about a picture but where things stand is decided here, and in `boxes` which things
there are. The place is Graphviz's business.
"""

from __future__ import annotations

import base64
import html
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from .. import ops
from ..engine import Value
from ..errors import InputError, RendererError, how_to_install, warn
from ..gradients import is_stale, listed, values
from ..numerics import whole
from ..state import write_atomically
from ..words import printable
from .algebra import formula, write
from .boxes import Box, Collapse, Graph, box_count, grouped, layer_of, planned, stem
from .names import concise, names, numeral
from .page import opened
from .webassembly import IN_PYODIDE, drawn_by_javascript

Direction = Literal["LR", "TB"]
Blank = Literal["data", "grad"]

LAYOUT_SECONDS = 8.0
"""How long a renderer may take before the graph is cut to `_QUICK` boxes."""

_QUICK = 400  # boxes that a renderer places in a second, whatever the graph

# Arial's metrics are known to every Graphviz. Who looks at the picture may have a wider font in its
# place: cells have room for DejaVu Sans, whose letters are as wide as this, in units of their size.
_FONT = "Arial"
_WIDTHS = {c: w for w, cs in ((0.37, "ijl.,:;'|! "), (0.43, "()[]-frtI/"), (0.84, "=+<>≈±×÷"),
                              (1.0, "mwMW%@…∂")) for c in cs}  # fmt: skip
_WIDTH, _CAPITAL, _BOLD = 0.65, 0.77, 1.12
INK, _GREY, _LINE = "#1a1a1a", "#5f6368", "#8a8f98"

# Blue is positive, orange negative, darker is larger: told apart by colour-blind readers, and
# black is legible on all of them, in print too. The sign is in the number as well.
POSITIVE = ("#edf4fb", "#cfe2f4", "#a3c9ea", "#74abdd")
NEGATIVE = ("#fdf2e4", "#fbddb5", "#f7bf7e", "#ee9f4a")
UNDEFINED = "#e3d3ea"

_LONGEST_FORMULA = 34
_MANY_EDGES = 64
_MANY_OPERANDS = 7
_BLANK = "_____"
_WIDEST = "-0.01234"  # of numbers with four digits, but for powers of ten


def draw(
    roots: Value | Iterable[Value],
    *,
    direction: Direction = "LR",
    collapse: Collapse = "auto",
    show_constants: bool = True,
    highlight: Value | Iterable[Value] = (),
    max_nodes: int = 200,
    parameters: Value | Iterable[Value] = (),
    hide: Blank | Collection[Blank] = (),
    room: bool = False,
) -> Drawing:
    """The graph that the roots depend on, as a picture.

    Every node shows its label (or a name such as v3), its operation, its data and its gradient
    ("–" before any backward pass); every edge its local derivative. Operations are rounded boxes,
    parameters have a double border, other leaves a single one, constants none. Numbers are rounded
    to four digits, but for constants that take no more than eight signs. A leaf is drawn as a
    parameter if it is among `parameters`, or labelled as `nn` does it, or like w1, W, b or θ.

    `collapse` draws each "neuron" or "layer" as one box, or "none"; "auto" takes the finest that
    stays readable, and a caption counts nodes and boxes. Another says where the data of operands of
    a node that is drawn by itself was changed since its numbers were recorded. At most `max_nodes`
    boxes are drawn, those nearest to the roots, and one that says how many nodes there are more.
    The boxes of the nodes in `highlight` get a heavy border. `hide="grad"` (or "data", or both in a
    list) leaves blanks in place of these numbers, for a worksheet. With `room` there is room for
    any number in place of each.

    Raises InputError (a ValueError) for options it does not know and OperandError (a TypeError)
    for roots that are not Values. Rendering, and only that, needs Graphviz: see `Drawing`.
    """
    for name, option, known in (
        ("direction", direction, get_args(Direction)),
        ("collapse", collapse, get_args(Collapse)),
    ):
        if option not in known:
            raise InputError(f"{name} is one of {', '.join(known)}, not {option!r:.60}")
    blank = {hide} if isinstance(hide, str) else set(hide)
    if unknown := sorted(blank.difference(get_args(Blank)), key=str):
        raise InputError(f"hide takes {' and '.join(get_args(Blank))}, not {unknown[0]!r:.60}")
    max_nodes = whole("max_nodes", max_nodes)
    graph = Graph(listed(roots), set(values("parameters takes Values", parameters)))
    groups = grouped(graph, collapse, max_nodes)
    marked = set(values("highlight takes Values", highlight))

    def drawn(limit: int) -> tuple[str, dict[Value, str]]:
        picture = _Picture(graph, planned(graph, groups, limit), marked, blank, room)
        ids = {node: box.id for node, box in picture.box_of.items()}
        return picture.source(direction, show_constants), ids

    return Drawing(drawn, min(max_nodes, box_count(graph, groups)))


class Drawing:
    """A picture of a graph: `source` is its text in the DOT language, `svg` what Graphviz draws.

    `save` writes a file, `show` opens the picture, and a notebook shows it by itself. Renderers
    are, in this order, the program `dot` and the package of the extra `svg`; without either, all
    but `source` raises `RendererError`, which says what to install. In Pyodide there is always one,
    for SVG. A layout that takes longer than `LAYOUT_SECONDS`, or may in Pyodide, where it cannot be
    stopped, is given up, and fewer boxes are drawn: a warning says how many, and `source` is what
    was drawn.
    """

    def __init__(self, drawn: Callable[[int], tuple[str, dict[Value, str]]], limit: int) -> None:
        """`drawn` gives the source with so many boxes at most, and the id of each node's box."""
        self._drawn = drawn
        self._limit = limit
        self.source, self._boxes = drawn(limit)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG; the group of a box has its id (see `box`). Raises RendererError."""
        # Some renderers escape hyphens. Viewers have Arial under one of these names.
        text = self._rendered("svg").decode("utf-8", errors="replace").replace("&#45;", "-")
        fonts = f'font-family="{_FONT},Helvetica,sans-serif"'
        return text.replace(f'font-family="{_FONT}"', fonts)

    def box(self, node: Value) -> str:
        """The id, in the SVG, of the box that stands for `node`.

        It is `node-K` where the box is of that node alone, the K-th in topological order. Raises
        InputError if the node is not in the graph.
        """
        if node not in self._boxes:
            raise InputError(f"{node!r} is not in this drawing")
        return self._boxes[node]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture, in the format that the suffix of `path` names (.dot: the source).

        Returns the path. Raises RendererError where the renderer cannot write that format, and
        OSError where writing fails: then a file that was there is as it was.
        """
        path = Path(path)
        suffix = path.suffix[1:].lower()
        if not suffix:
            raise InputError(f"{str(path)!r} has no suffix that says a format, such as .svg")
        content: str | bytes = self.source
        if suffix not in ("dot", "gv"):
            content = self.svg if suffix == "svg" else self._rendered(suffix)
        write_atomically(path, content)
        return path

    def show(self) -> Path:
        """Open the picture in the browser, and return the path of the file that it opens.

        The file is in the folder for temporary files. Raises RendererError.
        """
        return opened(self.save, "graph-", ".svg")

    def _rendered(self, suffix: str) -> bytes:
        takes = "may take" if IN_PYODIDE else "takes"
        with suppress(subprocess.TimeoutExpired):
            if not IN_PYODIDE or self._limit <= _QUICK:
                return rendered(self.source, suffix)
        many, self._limit = self._limit, max(1, min(_QUICK, self._limit // 4))
        too_long = f"the layout of {many:,} boxes {takes} longer than {LAYOUT_SECONDS:g} seconds"
        warn(f"{too_long}: {self._limit:,} are drawn")
        self.source, self._boxes = self._drawn(self._limit)
        try:
            return rendered(self.source, suffix)
        except subprocess.TimeoutExpired:
            raise RendererError(
                f"{too_long}, and so does that of {self._limit:,}: "
                "draw with a smaller max_nodes, or with collapse"
            ) from None

    def _repr_html_(self) -> str:
        # An <img> of data shows everywhere: in notebooks not yet run, exported pages, on GitHub.
        try:
            picture = base64.b64encode(self.svg.encode()).decode()
        except RendererError as error:
            return f"<p>{html.escape(str(error))}</p><pre>{html.escape(self.source)}</pre>"
        # A wide one is scrolled: notebooks would shrink it until nobody can read it.
        return (
            '<div style="overflow-x:auto"><img alt="computation graph" style="max-width:none" '
            f'src="data:image/svg+xml;base64,{picture}"></div>'
        )

    def __repr__(self) -> str:
        return f"<Drawing of {len(self._boxes)} nodes in {len({*self._boxes.values()})} boxes>"


class _Picture:
    """Writes boxes in the DOT language."""

    def __init__(
        self,
        graph: Graph,
        boxes: list[Box],
        highlight: set[Value],
        blank: Collection[str],
        room: bool,
    ) -> None:
        self.graph = graph
        self.boxes = boxes
        self.blank = blank
        self.widest = _WIDEST if room else ""
        self.box_of = {node: box for box in boxes for node in box.nodes}
        self.highlight = highlight
        self.named = {*graph.names.values()}
        self.short = names(graph.order, _clipped)
        grads = [abs(node.grad) for node in graph.order if math.isfinite(node.grad)]
        self.largest_grad = max(grads, default=0.0)
        self.swept = any(node.grad != 0.0 for node in graph.order if node.op is not None)

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
                       "arrowsize": "0.6", "weight": "4"},
        )  # fmt: skip
        captions = []
        if len(self.boxes) < len(self.graph.order):
            captions += [f"{len(self.graph.order):,} nodes in {len(self.boxes):,} boxes"]
        shown = [box.nodes[0] for box in self.boxes if box.kind == "node"]
        if not self.widest and any(map(is_stale, shown)):  # a page's numbers follow the changes
            captions += ["as recorded: data was changed since"]
        if captions:
            dot.attr(label=r"\n".join(captions), labelloc="b")
        edges = sum(len(box.sources) for box in self.boxes)
        if edges > _MANY_EDGES:
            # Else it would look for the best places, and for curves around all boxes, for minutes.
            dot.attr(nslimit="1", nslimit1="1", splines="line")
        else:  # operands from top to bottom: weights and inputs in the model's order
            dot.attr(ordering="in")
        if edges > max(_MANY_EDGES, 2 * len(self.boxes)):
            # Straight lines between layers keep clear of the boxes, and do not outshine them.
            dot.attr(ranksep="1.2")
            tail, head = ("e", "w") if direction == "LR" else ("s", "n")
            dot.attr("edge", tailport=tail, headport=head, color="#c4c8ce", arrowsize="0.4")
        for box in self.boxes:
            label, attributes = self._label(box)
            dot.node(box.id, f"<{label}>", id=box.id, **attributes)
        for box in self.boxes:
            if box.kind == "node":
                self._edges(box, show_constants)
            for source in box.sources:
                if not self._apart(source, box):
                    style = "dashed" if source.kind == "more" else "solid"
                    dot.edge(source.id, box.id, id=f"into-{box.id}-{source.id}", style=style)
        self._align_layers()
        return str(dot.source)

    def _align_layers(self) -> None:
        """Make a layer's neurons stand in order: invisible edges lead from each to the next."""
        layers: dict[str, list[tuple[int, str]]] = {}
        for box in self.boxes:
            if box.kind == "module" and (layer := layer_of(box.title)) != box.title:
                place = int(box.title.rpartition("[")[2][:-1])
                layers.setdefault(layer, []).append((place, box.id))
        for neurons in layers.values():
            if len(neurons) > 1:
                with self.dot.subgraph() as row:
                    row.attr(rank="same")
                    for (_, box_id), (_, following) in pairwise(sorted(neurons)):
                        row.edge(box_id, following, style="invis")

    def _apart(self, source: Box, box: Box) -> bool:
        """Whether each edge between two boxes is drawn, rather than one for all of them."""
        return source.kind == box.kind == "node" and box.sources[source] <= _MANY_OPERANDS

    def _edges(self, box: Box, show_constants: bool) -> None:
        """The edges that are drawn one by one to a node's box, and its constants."""
        (node,) = box.nodes
        place = self.graph.index[node]
        constants = {k: _short(a) for k, a in enumerate(node.operands) if not isinstance(a, Value)}
        if len(constants) > _MANY_OPERANDS:
            constants = {min(constants): f"{len(constants):,} numbers"}
        pairs: Any = zip(node.operands, node.operand_grads, strict=True)
        for k, (parent, d) in enumerate(pairs):
            edge, constant = f"edge-{place}-{k}", f"const-{place}-{k}"
            if d is not None:
                if self._apart(source := self.box_of[parent], box):
                    self.dot.edge(source.id, box.id, id=edge, label=numeral(d))
            elif isinstance(parent, Value):  # a condition, or the side that is not taken
                self.dot.edge(self.box_of[parent].id, box.id, id=edge, style="dashed")
            elif show_constants and k in constants:
                self.dot.node(
                    constant, constants[k], id=constant, shape="plaintext", margin="0.03",
                    width="0", height="0", fontsize="10", fontcolor=_GREY,
                )  # fmt: skip
                self.dot.edge(constant, box.id, id=edge, style="dashed", weight="1")

    # --- what a box says ---

    def _label(self, box: Box) -> tuple[str, dict[str, str]]:
        """A box's label, in Graphviz's HTML, and its other attributes."""
        if box.kind == "node":
            return self._label_of_node(box)
        if box.kind == "more":
            attributes = {"shape": "box", "style": "dashed,rounded", "fontcolor": _GREY}
            return _row(_cell(f"… {_counted(len(box.nodes), 'more node')}")), attributes
        if box.kind == "module":
            title, nodes = box.title, [node for node in box.nodes if node.op is None]
            about = self._about_module(box, nodes)
        else:
            title, nodes, about = self._title_of_alike(box), box.nodes, ""
        norm = math.hypot(*(node.grad for node in nodes))
        largest = self.largest_grad * math.sqrt(len(nodes))
        numbers = self._gradient("‖grad‖", norm, largest, any(map(self._has_grad, nodes)))
        if box.kind == "module" and (output := self._output(box)) is not None:
            numbers = self._data(output) + numbers
        rows = [_cell(_clipped(title), bold=box.kind == "module")]
        rows += [_cell(_clipped(about, 99), small=True)] if about else []
        return self._rounded(box, [*rows, numbers], "#f1f3f4"), {}

    def _label_of_node(self, box: Box) -> tuple[str, dict[str, str]]:
        (node,) = box.nodes
        name = self.short[node]
        grad = self._gradient("grad", node.grad, self.largest_grad, self._has_grad(node))
        numbers = self._data(node) + grad
        if node.op is not None:
            title = f"{name} = {_clipped(self._formula(node), _LONGEST_FORMULA)}"
            return self._rounded(box, [_cell(title, bold=bool(node.label)), numbers]), {}
        attributes = {"shape": "box", "style": "filled", "fillcolor": "white"}
        attributes |= {"margin": "0.06,0.03"}
        if node in self.graph.parameters:
            attributes["peripheries"] = "2"
        if node in self.highlight:
            attributes |= {"penwidth": "3", "color": INK}
        return _table([_cell(name, bold=True), numbers], 'border="0" cellspacing="0"'), attributes

    @staticmethod
    def _output(box: Box) -> Value | None:
        """The node whose data is the output of a module: None where there is more than one."""
        inner = [node for node in box.nodes if node.op is not None]
        used = {parent for node in inner for parent in node.parents}
        outputs = [node for node in inner if node not in used]
        return outputs[0] if len(outputs) == 1 else None

    def _about_module(self, box: Box, parameters: Sequence[Value]) -> str:
        """How many neurons and parameters there are in a module, and which functions."""
        sums = Counter(self.graph.modules[n] for n in box.nodes if n.op is ops.affine_row)
        functions = {n.op.name for n in box.nodes if n.op and n.op.binding >= 9}
        functions -= {ops.affine_row.name}
        neurons = {self.graph.modules[node] for node in parameters}
        what = [_counted(len(neurons), "neuron")] if len(neurons) > 1 else []
        what += [*sorted(functions), _counted(len(parameters), "parameter")]
        if (uses := max(sums.values(), default=1)) > 1:
            alike = len(neurons) * uses == sums.total()
            what.append(f"used {'' if alike else 'up to '}{uses:,} times")
        return ", ".join(what)

    def _title_of_alike(self, box: Box) -> str:
        node, count = box.nodes[-1], len(box.nodes)
        if node.op is None:
            kind = "parameters" if node in self.graph.parameters else "leaves"
            return f"{count:,} {kind} {stem(node.label)}"
        if any(p in box.nodes for p in node.parents):
            return f"Σ: {count:,} additions"
        what = self._generic(box.nodes)
        loose = node.op.binding < ops.mul.binding
        return f"{count:,} × {f'({what})' if loose else what}"

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
        if "grad" in self.blank:
            color, shown = "#ffffff", _BLANK
        return f'<td bgcolor="{color}">{self._number(head, shown)}</td>'

    def _data(self, node: Value) -> str:
        shown = _BLANK if "data" in self.blank else numeral(node.data)
        return f"<td>{self._number('data', shown)}</td>"

    def _number(self, head: str, shown: str) -> str:
        return _row(_cell(head, small=True), _cell(shown, widest=self.widest))

    def _rounded(self, box: Box, rows: Sequence[str], color: str = "#ffffff") -> str:
        bold = not self.highlight.isdisjoint(box.nodes)
        border = f'border="3" color="{INK}"' if bold else f'border="1" color="{_LINE}"'
        return _table(rows, f'{border} cellspacing="4" style="rounded" bgcolor="{color}"', "<hr/>")

    def _formula(self, node: Value) -> str:
        """The operation, with the names of what it was applied to if there is room for them."""
        named = len(node.operands) <= _MANY_OPERANDS
        written = formula(node, self.graph.names, digits=4, point=False) if named else ""
        return written if 0 < len(written) <= _LONGEST_FORMULA else self._generic([node])

    def _generic(self, nodes: Sequence[Value]) -> str:
        """An operation in general terms that are true of all these nodes: w·x + b, c·x, tanh(x).

        The nodes have the same operation. A letter that is no node's name stands for what is not
        the same number in all.
        """
        node = nodes[-1]
        assert node.op is not None
        if node.op.arity is None:
            return node.op.text if node.op is ops.affine_row else f"{node.op.name}(…)"
        # x·x where each has one operand twice, else x·y.
        places = {tuple(map(node.operands.index, node.operands)) for node in nodes}
        alike = places.pop() if len(places) == 1 else range(len(node.operands))
        values, numbers = (
            iter(c for c in few if c not in self.named) for few in ("xyzuvw", "cdab")
        )
        written: list[tuple[str, float]] = []
        for k, operand in enumerate(node.operands):
            if isinstance(operand, Value):
                written.append(written[alike[k]] if alike[k] < k else (next(values, "…"), 9))
            elif any(other.operands[k] != operand for other in nodes):
                written.append((next(numbers, "…"), 9))
            else:
                written.append((_short(operand), 3 if operand < 0 else 9))
        return write(node.op, written)


def _short(x: float) -> str:
    """A constant, as in a formula: 3, 0.01, 273.15, 1.235e+07."""
    return concise(x, 4)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _table(rows: Sequence[str], attributes: str, rule: str = "") -> str:
    """Rows below each other, each of one cell or more; `rule` is above the last."""
    *first, last = (f"<tr><td>{_row(row)}</td></tr>" for row in rows)
    return (
        f'<table {attributes} cellborder="0" cellpadding="0">{"".join(first)}{rule}{last}</table>'
    )


def _row(*cells: str) -> str:
    return (
        '<table border="0" cellborder="0" cellspacing="0" cellpadding="2">'
        f"<tr>{''.join(cells)}</tr></table>"
    )


def _cell(text: str, *, bold: bool = False, small: bool = False, widest: str = "") -> str:
    """A cell with room for `text`, and for the `widest`, in any of the usual fonts."""
    size = 9 if small else 12
    widths = [
        math.fsum(_WIDTHS.get(c) or (_CAPITAL if c.isupper() else _WIDTH) for c in each)
        for each in (text, widest)
    ]
    width = math.ceil(size * (_BOLD if bold else 1.0) * max(widths))
    # Graphviz replaces \\N and the like even here; a doubled backslash is one. A text of nothing
    # but closing brackets is a syntax error to it.
    text = html.escape(text, quote=True).replace("\\", "\\\\")
    text = text if text.strip("]") else text.replace("]", "&#93;")
    if small:
        text = f'<font point-size="{size}" color="{_GREY}">{text}</font>'
    return f'<td width="{width + 4}" align="left">{f"<b>{text}</b>" if bold else text}</td>'


def _clipped(text: str, length: int = 44) -> str:
    """`text` in a short line, as UTF-8 allows."""
    text = printable(text.replace("\r\n", "\n").replace("\n", "↵"))
    # Names that begin alike differ at the end.
    return text if len(text) <= length else f"{text[: length - 13]}…{text[-12:]}"


# --- renderers ------------------------------------------------------------------------------------


_GRAPHVIZ = "apt install graphviz, brew install graphviz"


def renderer() -> str:
    """The path of `dot`, or of the program of the `svg` extra. Raises RendererError."""
    beside = str(Path(sys.executable).parent)  # an environment's programs need not be on PATH
    port = "graphviz-pure"
    found = shutil.which("dot") or shutil.which(port) or shutil.which(port, path=beside)
    if found is None:
        raise RendererError(
            f"drawing needs Graphviz: install it ({_GRAPHVIZ}), or {how_to_install('svg')}, "
            "a port that writes SVG and PNG; .source works without"
        )
    return found


def rendered(source: str, suffix: str) -> bytes:
    """What the renderer makes of a source, in the format of a suffix.

    Raises RendererError, and TimeoutExpired after the limit.
    """
    if IN_PYODIDE:
        return drawn_by_javascript(source, suffix).encode()
    program = renderer()
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
    problem = " ".join(done.stderr.decode("utf-8", errors="replace").split())
    advice = ".source works without"
    if Path(program).stem != "dot":
        advice = f"Graphviz itself writes more formats: {_GRAPHVIZ}"
    raise RendererError(
        f"{Path(program).stem} cannot write {suffix!r:.60}: status {done.returncode}, "
        f"{problem[:500]} ({advice})"
    )
