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
from itertools import islice
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
_NEURON = re.compile(r"(\(\d+\) |)neurons\[\d+\]")
_LONGEST_PATH = 1000


class Graph:
    """The nodes that the roots depend on: their names, their modules, which are parameters."""

    def __init__(self, roots: list[Value], parameters: set[Value]) -> None:
        self.order = topological_order(*roots, untaken=True)
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
        or single ones), and the function that is applied to the sum, and to nothing else, and so
        wherever the neuron is used: of logits a loss may have softplus for one class alone.
        Where several networks have the same labels, the paths in the second one begin with (2).
        """
        result = {
            leaf: path[1]
            for leaf in leaves
            if leaf in self.parameters and (path := _found(_MODULE_PATH, leaf.label))
        }
        if len({leaf.label for leaf in result}) < len(result):
            for leaf, k in self._networks(result).items():
                result[leaf] = f"({k}) " * (k > 1) + result[leaf]
        for node in self.order:
            op, parents = node.op, node.parents
            terms: Sequence[Value] = ()
            if op is ops.affine_row or op is ops.mul:
                terms = [p for p in parents if p.op is None and p in result]
                if len(terms) == len(node.operands):  # w·x + b, but not w·w
                    terms = ()
            elif op is ops.add:
                # The sum with a product, or with b, but not of the outputs of two uses.
                single = any(p.op is None or p.op is ops.mul for p in parents)
                terms = parents if single and any(p.op for p in parents) else ()
            elif op and op.arity and op.binding >= 9 and len(parents) == 1 and not node.label:
                # A function written as a call, and not the products and sums of a loss, nor what
                # a loss of two classes has of the logits but one: logsumexp.
                applied = parents[0].op is ops.affine_row or parents[0].op is ops.add
                terms = parents if applied and self.uses[parents[0]] == 1 else ()
            owners = {result.get(p) for p in terms}
            if len(owners) == 1 and (owner := owners.pop()) is not None:
                result[node] = owner
        within = {p for node, path in result.items() for p in node.parents if result.get(p) == path}
        linear = {
            path
            for node, path in result.items()
            if node.op in (ops.affine_row, ops.add) and node not in within
        }
        return {
            node: path
            for node, path in result.items()
            if path not in linear or not node.op or node.op in (ops.affine_row, ops.add, ops.mul)
        }

    def _networks(self, paths: dict[Value, str]) -> dict[Value, int]:
        """Which network each of the parameters with these paths is of, counted from 1.

        None has two with the same label. Neurons of a layer with the same inputs belong together,
        and to the network that these come from; where a label comes again, the next one begins.
        """
        neurons: dict[Any, list[list[Value]]] = {}  # their parameters, by layers and inputs
        sums: dict[Value, list[Value]] = {}  # those of the neuron whose sum a node is, or begins
        source: dict[Value, Value] = {}  # one of the last neuron on the way to a node
        rest = dict.fromkeys(paths)
        for node in self.order:
            terms: list[Any] = list(node.operands) if node.op is ops.affine_row else []
            for a in node.operands if node.op is ops.add else ():
                factors = a.operands if isinstance(a, Value) and a.op is ops.mul else ()
                terms += [a] if paths.keys() >= {*factors} else factors  # w·x, but not w·w
            own = [a for a in terms if a in paths]
            inputs = tuple([a for a in terms if a not in paths])
            if not own or not inputs:
                source.update([(node, source[a]) for a in node.parents if a in source][:1])
                continue
            source[node] = own[0]
            if fresh := [a for a in dict.fromkeys(own) if a in rest]:
                path = paths[own[0]]
                begun = [sums[a] for a in inputs if a in sums and paths[sums[a][0]] == path]
                if not begun or _clash({leaf.label for leaf in begun[0]}, fresh):
                    begun = [[]]
                    neurons.setdefault((layer_of(path), inputs), []).extend(begun)
                begun[0].extend(fresh)
                sums[node] = begun[0]
                for leaf in fresh:
                    del rest[leaf]
                if not rest:
                    break
        number: dict[Value, int] = {}
        taken: set[tuple[str, int]] = set()
        last = Counter[str]()  # the network that has the label, of several the last one
        for (_, inputs), found in [*neurons.items(), (("", ()), [[leaf] for leaf in rest])]:
            above = dict.fromkeys([number[source[a]] for a in inputs if a in source])
            alike: dict[int, None] = {}  # what follows one another has nothing in common
            for leaves in (runs := _runs(found)):
                labels = [leaf.label for leaf in leaves]
                k = 1 + max(last[label] for label in labels)
                for wanted in (*alike, *above):
                    if taken.isdisjoint([(label, wanted) for label in labels]):
                        k = wanted
                        break
                taken.update([(label, k) for label in labels])
                number |= dict.fromkeys(leaves, k)
                last |= dict.fromkeys(labels, k)
                if runs is found:
                    alike[k] = None
        return number


def _runs(neurons: list[list[Value]]) -> list[list[Value]]:
    """The parameters of layers that follow one another, or of each neuron where they take turns."""
    runs: list[list[Value]] = []
    labels: set[str] = set()
    begins: set[str] = set()
    for leaves in neurons:
        if not runs or _clash(labels, leaves):
            runs.append([])
            labels = set()
            begins.add(min(leaf.label for leaf in leaves))
        runs[-1] += leaves
        labels.update([leaf.label for leaf in leaves])
    return runs if len(begins) == 1 else neurons


def _clash(labels: set[str], leaves: Iterable[Value]) -> bool:
    return not labels.isdisjoint([leaf.label for leaf in leaves])


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
    sources: Counter[Box] = field(default_factory=Counter)  # how many edges come from which boxes


def layer_of(path: str) -> str:
    """The path of the layer that a neuron is in; other modules are their own."""
    layer, _, name = path.rpartition(".")
    neuron = _NEURON.fullmatch(name)
    return layer or f"{neuron[1]}layer" if neuron else path


def stem(label: str) -> str:
    """What labels such as x1, x2 and x[3] have in common: x."""
    return re.sub(r"[\d_\[].*", "", label, flags=re.DOTALL)


def grouped(graph: Graph, collapse: Collapse, max_nodes: int) -> Groups:
    """The finest groups that `collapse` allows and that make a readable picture."""
    few = min(_READABLE_BOXES, max_nodes)
    groups: Groups = dict(graph.modules)
    if collapse == "none":
        return {}
    if collapse == "auto":
        if not groups or len(graph.order) <= few // 2:
            return {}
        weights = [node for node in groups if node.op is None]  # an edge each, if used once
        used_once = all(graph.uses[p] == 1 for p in weights)
        if used_once and len(weights) <= _READABLE_EDGES and box_count(graph, groups) <= few:
            return groups
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
        inner = [p for p in node.parents if p.op is ops.add and graph.uses[p] == 1 and p in result]
        if node.op is ops.add and inner:
            # A sum of many terms is one group, however it was added up.
            result[node] = result[inner[0]]
            continue
        key: tuple[Any, ...] = ("leaf", node in graph.parameters, stem(node.label))
        if node.op is not None:
            sources = [
                groups.get(a) or result.get(a) or graph.index[a] if isinstance(a, Value) else None
                for a in node.operands
            ]
            key = (node.op.name, stem(node.label), *sources)
        result[node] = ("alike", keys.setdefault(key, len(keys)))
    counts = Counter(result.values())
    return {node: group for node, group in result.items() if counts[group] > 1}


def planned(graph: Graph, groups: Groups, limit: int) -> list[Box]:
    """The boxes; of more than `limit` those nearest to the roots, after one for all the others."""
    is_cut = box_count(graph, groups) > limit
    met = dict.fromkeys(graph.roots)
    queue = deque(met if is_cut else ())
    while queue:
        parents = dict.fromkeys(queue.popleft().parents)
        queue.extend(parent for parent in parents if parent not in met)
        met |= parents
    nearest = dict.fromkeys(groups.get(node, node) for node in met)
    kept = set(islice(nearest, limit))
    rest = Box("more", "more")
    by_group: dict[Any, Box] = {}
    box_of: dict[Value, Box] = {}
    for i, node in enumerate(graph.order):
        group = groups.get(node, node)
        if is_cut and group not in kept:
            box = rest
        elif group in by_group:
            box = by_group[group]
        elif group is node:
            box = by_group[group] = Box(f"node-{i}", "node")
        elif isinstance(group, str):
            box = by_group[group] = Box(f"box-{i}", "module", group)
        else:
            box = by_group[group] = Box(f"box-{i}", "alike")
        box_of[node] = box
        box.nodes.append(node)
        for parent in node.parents if box is not rest else ():
            if (source := box_of[parent]) is not box:
                box.sources[source] += 1
    return [box for box in (rest, *by_group.values()) if box.nodes]
