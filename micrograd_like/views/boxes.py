"""What a picture of a graph shows, as data: its boxes, each of which stands for nodes.

A box stands for one node, for a module (a neuron or a layer, told by the labels that `nn` gives to
parameters), for nodes that do the same to the same boxes, or for the rest of a graph that is too
large to draw. `drawing` says what a box looks like, and Graphviz where it stands.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import ops
from ..engine import Value, topological_order
from .names import names

Collapse = Literal["auto", "none", "neuron", "layer"]
Groups = dict[Value, Any]
"""The group of each node that is drawn with others: the path of a module, or any other key."""

_READABLE_BOXES = 64
_READABLE_EDGES = 400

_PARAMETER = re.compile(
    r"(^|\.)(w|W|b|weight|bias|theta|θ)s?_?\d*(\[[\d, ]+\])*$|\][\w.\[\]]*\.\w+(\[\d+\])*$"
)
_MODULE_PATH = re.compile(r"^(.+)\.\w+(?:\[[^\]]*\])*$", re.DOTALL)
_NEURON = re.compile(r"neurons\[\d{1,9}\]$")
_LONGEST_PATH = 1000


class Graph:
    """The nodes that the roots depend on: their names, their modules, which are parameters."""

    def __init__(self, roots: list[Value], parameters: set[Value]) -> None:
        self.order = topological_order(*roots)
        self.roots = dict.fromkeys(roots)
        self.index = {node: i for i, node in enumerate(self.order)}
        self.names = names(self.order)
        leaves = [node for node in self.order if node.op is None]
        self.parameters = parameters | {leaf for leaf in leaves if _found(_PARAMETER, leaf.label)}
        self.uses = Counter(roots)
        for node in self.order:
            self.uses.update(node.parents)
        self.modules = self._modules(leaves)

    def _modules(self, leaves: Iterable[Value]) -> dict[Value, str]:
        """The path of the neuron (or other module) that a node belongs to, where there is one.

        A neuron has the parameters that are labelled so, the sum of products with them (one node,
        or single ones), and the function that is applied to the sum, and to nothing else.
        """
        result = {
            leaf: path[1]
            for leaf in leaves
            if leaf in self.parameters and (path := _found(_MODULE_PATH, leaf.label))
        }
        sums: set[Value] = set()
        inner: set[Value] = set()  # those that are terms of a sum themselves
        applied: dict[str, list[Value]] = {}
        for node in self.order:
            if node.op is None:
                continue
            parents = node.parents
            terms: Sequence[Value] = ()
            if node.op is ops.affine_row or node.op is ops.mul:
                terms = [p for p in parents if p.op is None and p in result]
                if len(terms) == len(node.operands):  # w·x + b, but not w·w
                    terms = ()
            elif node.op is ops.add and len(parents) == 2:
                # The sum with a product, or with b, but not of the outputs of two uses.
                single = any(p.op is None or p.op is ops.mul for p in parents)
                terms = parents if single and not sums.isdisjoint(parents) else ()
            owners = {result.get(p) for p in terms}
            if len(owners) == 1 and (owner := owners.pop()) is not None:
                result[node] = owner
                sums.add(node)
                inner.update(p for p in parents if result.get(p) == owner)
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
        outputs = Counter(result[node] for node in sums - inner)
        for owner, nodes in applied.items():
            # A neuron has one function, and applies it every time; else it is part of a loss.
            if len({node.op for node in nodes}) > 1 or len(nodes) < outputs[owner]:
                for node in nodes:
                    del result[node]
        return result


def _found(pattern: re.Pattern[str], label: str) -> re.Match[str] | None:
    # The patterns take time quadratic in a label's length.
    return pattern.search(label) if len(label) <= _LONGEST_PATH else None


@dataclass(eq=False, slots=True)
class Box:
    """What stands for a "node", or for those of a "module", for nodes "alike", or for "more"."""

    id: str
    kind: str
    title: str = ""  # the path of a module
    nodes: list[Value] = field(default_factory=list)
    sources: dict[Box, int] = field(default_factory=dict)  # how many edges come from which boxes


def is_neuron(path: str) -> bool:
    """Whether the path of a module is that of a neuron in a list."""
    return _NEURON.search(path) is not None


def layer_of(path: str) -> str:
    """The path of the layer that a neuron is in; other modules are their own."""
    layer, _, name = path.rpartition(".")
    return layer or "layer" if _NEURON.fullmatch(name) else path


def stem(label: str) -> str:
    """What labels such as x1, x2 and x[3] have in common: x."""
    return re.sub(r"[\d_\[].*", "", label, flags=re.DOTALL)


def grouped(graph: Graph, collapse: Collapse, max_nodes: int) -> Groups:
    """The finest groups that `collapse` allows and that make a readable picture."""
    few = min(_READABLE_BOXES, max_nodes)
    by_neuron: Groups = dict(graph.modules)
    if collapse == "none":
        return {}
    if collapse == "auto":
        if not by_neuron or len(graph.order) <= few // 2:
            return {}
        used_once = all(graph.uses[p] == 1 for p in by_neuron if p.op is None)
        if used_once and box_count(graph, by_neuron) <= few:
            edges = sum(len(box.sources) for box in _all_boxes(graph, by_neuron))
            if edges <= _READABLE_EDGES:
                return by_neuron
    groups = by_neuron
    if collapse != "neuron":
        groups = {node: layer_of(path) for node, path in graph.modules.items()}
    return groups if box_count(graph, groups) <= few else groups | _alike(graph, groups)


def box_count(graph: Graph, groups: Groups) -> int:
    """How many boxes there are: one a group, and one for each node without one."""
    return len(graph.order) - len(groups) + len(set(groups.values()))


def _alike(graph: Graph, groups: Groups) -> Groups:
    """The other nodes, grouped: those that do the same to the same groups, and sums, are one."""
    result: Groups = {}
    keys: dict[Any, int] = {}
    for node in graph.order:
        if node in groups or node in graph.roots:
            continue
        key: tuple[Any, ...]
        if node.op is None:
            key = ("leaf", node in graph.parameters, stem(node.label))
        else:
            # A sum of many terms is one group, however it was added up.
            terms = [
                p
                for p in node.parents
                if node.op is ops.add and p.op is ops.add and graph.uses[p] == 1 and p in result
            ]
            if terms:
                result[node] = result[terms[0]]
                continue
            sources = [
                groups.get(a) or result.get(a) or graph.index[a] if isinstance(a, Value) else None
                for a in node.operands
            ]
            key = (node.op.name, stem(node.label), *sources)
        result[node] = ("alike", keys.setdefault(key, len(keys)))
    return result


def _all_boxes(graph: Graph, groups: Groups) -> list[Box]:
    """The boxes in the order of their first nodes."""
    by_group: dict[Any, Box] = {}
    box_of: dict[Value, Box] = {}
    for i, node in enumerate(graph.order):
        group = groups.get(node, node)
        box = by_group.get(group)
        if box is None:
            kind = "node" if group is node else "module" if isinstance(group, str) else "alike"
            box = by_group[group] = Box(f"node-{i}", kind, group if kind == "module" else "")
        box_of[node] = box
        box.nodes.append(node)
        for parent in node.parents:
            if (source := box_of[parent]) is not box:
                box.sources[source] = box.sources.get(source, 0) + 1
    for box in by_group.values():
        if box.kind == "alike" and len(box.nodes) == 1:
            box.kind = "node"
        elif box.kind != "node":
            box.id = box.id.replace("node", "box")
    return list(by_group.values())


def planned(graph: Graph, groups: Groups, limit: int) -> list[Box]:
    """The boxes; of more than `limit` those nearest to the roots, after one for all the others."""
    every = _all_boxes(graph, groups)
    if len(every) <= limit:
        return every
    box_of = {node: box for box in every for node in box.nodes}
    met = dict.fromkeys(box_of[root] for root in graph.roots)
    queue = deque(met)
    kept: set[Box] = set()
    while queue and len(kept) < limit:
        box = queue.popleft()
        kept.add(box)
        queue.extend(source for source in box.sources if source not in met)
        met |= dict.fromkeys(box.sources)
    rest = Box("more", "more")
    for box in every:
        if box not in kept:
            rest.nodes += box.nodes
            continue
        counts, box.sources = box.sources, {}
        for source, edges in counts.items():
            source = source if source in kept else rest
            box.sources[source] = box.sources.get(source, 0) + edges
    return [rest, *(box for box in every if box in kept)]
