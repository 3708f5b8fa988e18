"""The plan of a picture as data: which boxes there are, and which nodes each of them stands for."""

from __future__ import annotations

from collections import Counter

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


def test_numbered_labels_have_a_stem_in_common() -> None:
    assert [*map(stem, ["x1", "x_2", "x[3]", "rate", ""])] == ["x", "x", "x", "rate", ""]
