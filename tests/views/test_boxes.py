"""The plan of a picture as data: which boxes there are, and which nodes each of them stands for."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from micrograd_like import Value, nn, relu, topological_order
from micrograd_like.views.boxes import (
    Box,
    Graph,
    box_count,
    grouped,
    layer_of,
    planned,
    stem,
)


def plan_of(root: Value, collapse: str, limit: int = 200) -> list[Box]:
    graph = Graph([root], set())
    return planned(graph, grouped(graph, collapse, limit), limit)


def losses() -> Value:
    model = nn.MLP(2, [3, 1], seed=0)
    return sum(relu(1.0 - model([float(i), 1.0])) for i in range(40))


@pytest.mark.parametrize("collapse", ["auto", "none", "neuron", "layer"])
@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_every_node_is_in_one_box_and_every_edge_between_boxes_is_counted(
    collapse: str, limit: int
) -> None:
    root = losses()
    plan = plan_of(root, collapse, limit)
    order = topological_order(root)
    assert len(plan) <= limit + 1
    assert sorted(map(order.index, [n for box in plan for n in box.nodes])) == [*range(len(order))]
    box_of = {node: box for box in plan for node in box.nodes}
    for box in plan:
        assert (box.kind == "more") == (box is plan[0] and len(plan) == limit + 1)
        sources = [box_of[parent] for node in box.nodes for parent in node.parents]
        expected = Counter(s for s in sources if s is not box and box.kind != "more")
        assert box.sources == expected


def test_a_box_is_a_node_a_module_or_nodes_that_do_alike() -> None:
    plan = plan_of(losses(), "layer")
    assert [(box.id, box.kind, box.title, len(box.nodes)) for box in plan] == [
        ("box-0", "module", "layers[1]", 4 + 40),
        ("box-3", "module", "layers[0]", 3 * 3 + 40 * 3 * 2),
        ("box-20", "alike", "", 40),  # 1 - output
        ("box-21", "alike", "", 40),  # relu
        ("box-22", "alike", "", 39),  # the sum, without
        ("node-412", "node", "", 1),  # the root
    ]


def test_the_number_of_boxes_is_known_before_they_are_made() -> None:
    graph = Graph([losses()], set())
    for collapse in ("none", "neuron", "layer"):
        groups = grouped(graph, collapse, 1000)
        assert box_count(graph, groups) == len(planned(graph, groups, 1000))


def test_the_boxes_that_are_kept_are_the_nearest_to_the_roots() -> None:
    x = y = Value(1.0, label="x")
    for _ in range(10):
        y = y.exp()
    rest, *kept = plan_of(y, "none", 3)
    assert [box.id for box in kept] == ["node-8", "node-9", "node-10"]
    assert [box.id for box in kept[0].sources] == ["more"]
    assert x in rest.nodes


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("layers[0].neurons[12]", "layers[0]"),
        ("neurons[1]", "layer"),
        ("encoder.layers[0].neurons[1]", "encoder.layers[0]"),
        ("layers[0]", "layers[0]"),
        ("norm", "norm"),
    ],
)
def test_the_path_of_a_neuron_names_its_layer(path: str, layer: str) -> None:
    assert layer_of(path) == layer


@pytest.mark.parametrize("seed", range(60))
def test_networks_with_the_same_labels_have_boxes_of_their_own(seed: int) -> None:
    """Each box of a layer has all parameters of one layer, whatever comes first in the loss."""
    random = Random(seed)
    networks, outputs = [], [[0.5, *[Value(random.gauss(0.0, 1.0)) for _ in range(2)]]]
    for k in range(random.randint(2, 4)):
        x = random.choice(outputs)
        widths = [random.randint(1, 4) for _ in range(random.randint(2, 3))]
        network = nn.MLP(len(x), widths, "tanh", seed=k, fused=random.random() < 0.5)
        out = network(x)
        networks.append(network)
        outputs.append(out if isinstance(out, list) else [out])
    found = [y for out in outputs[1:] for y in out]
    if seed % 2:  # else one network after the other
        random.shuffle(found)
    penalty = sum(p * p for network in networks[::-1] for p in network.parameters())
    root = sum(y * random.gauss(0.0, 1.0) for y in found) + penalty * (seed % 3 == 0)
    if seed % 3 == 1:
        root = penalty + root
    layers = {frozenset(layer.parameters()) for network in networks for layer in network.layers}
    boxes = [box for box in plan_of(root, "layer", 10_000) if box.kind == "module"]
    assert {frozenset(n for n in box.nodes if n.op is None) for box in boxes} == layers
    assert len({box.title for box in boxes}) == len(boxes)


@pytest.mark.parametrize("widths", [(3, 3, 3), (2, 3, 5), (4, 2, 3)])
def test_layers_on_the_same_inputs_are_told_apart(widths: tuple[int, ...]) -> None:
    layers = [nn.Layer(2, n, seed=k) for k, n in enumerate(widths)]
    outputs = [layer([1.0, 2.0]) for layer in layers]
    root = sum(sum(output) for output in outputs)
    if len({*widths}) == 1:
        root = sum(q * k * v for q, k, v in zip(*outputs, strict=True))
    boxes = [box for box in plan_of(root, "layer") if box.kind == "module"]
    assert sorted(box.title for box in boxes) == ["(2) layer", "(3) layer", "layer"]
    parameters = [{n for n in box.nodes if n.op is None} for box in boxes]
    assert all({*layer.parameters()} in parameters for layer in layers)


def test_any_number_of_parameters_may_have_the_same_label() -> None:
    parameters = [Value(0.1, "net.w") for _ in range(3000)]
    graph = Graph([sum(p * 2.0 for p in parameters)], set())
    assert [graph.modules[p] for p in parameters][:2] == ["net", "(2) net"]
    assert len({graph.modules[p] for p in parameters}) == 3000


def test_numbered_labels_have_a_stem_in_common() -> None:
    assert [*map(stem, ["x1", "x_2", "x[3]", "rate", ""])] == ["x", "x", "x", "rate", ""]
