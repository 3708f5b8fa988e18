"""draw: what is in the picture, what it is called, and what happens without a renderer."""

import base64
import copy
import os
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import in_pyodide
import pytest
from hypothesis import example as instance
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import (
    Value,
    affine,
    explain,
    greater,
    logsumexp,
    losses,
    nn,
    softplus,
    tanh,
    topological_order,
    where,
)
from micrograd_like.datasets import moons
from micrograd_like.errors import (
    InputError,
    MicrogradError,
    MicrogradWarning,
    OperandError,
    RendererError,
)
from micrograd_like.module import label_parameters
from micrograd_like.views import drawing
from micrograd_like.views.drawing import draw

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = [
    'say "hi" \\ there',
    r"\N \G \E \T \l \\",
    "<b>bold</b> &amp; <script>alert(1)</script>",
    "a\nb\r\nc\td",
    "{x|y} <<table>>",
    "⚡🎉 naïve",
    "مرحبا بالعالم",
    "-->]]>",
    "\x00\x07\ud800",
    "n" * 10_000,
]


def neuron():
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    y = tanh(w1 * x1 + w2 * x2 + Value(6.8813735870195432, label="b"))
    y.label = "y"
    return y


def programs():
    """The renderers at hand, by name."""
    pure = shutil.which("graphviz-pure") or shutil.which(
        "graphviz-pure", path=str(Path(sys.executable).parent)
    )
    found = {"dot": shutil.which("dot"), "graphviz-pure": pure}
    return {name: path for name, path in found.items() if path}


@pytest.fixture(params=["dot", "graphviz-pure", "pyodide"])
def renderer(request, monkeypatch, tmp_path):
    """Only this renderer is to be found. CI has all (REQUIRE_GRAPHVIZ=1, REQUIRE_PYODIDE=1)."""
    if request.param == "pyodide":
        monkeypatch.setattr(drawing, "rendered", in_pyodide.rendered)
        return request.param
    path = programs().get(request.param)
    if path is None:
        if os.environ.get("REQUIRE_GRAPHVIZ"):
            pytest.fail(f"{request.param} is required here")
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / request.param).symlink_to(path)
    monkeypatch.setenv("PATH", str(folder))
    return request.param


@pytest.fixture
def no_renderer(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def texts(svg):
    """The texts in the picture by the id of their group."""
    tree = ElementTree.fromstring(svg.split("]>")[-1] if "<!ENTITY" in svg else svg)
    return {
        group.get("id"): [text.text or "" for text in group.iter(f"{SVG}text")]
        for group in tree.iter(f"{SVG}g")
        if group.get("class") in ("node", "edge")
    }


def edges(source):
    """(child, place) of each edge that has an id."""
    return sorted((int(k), int(i)) for k, i in re.findall(r'\bid="?edge-(\d+)-(\d+)"?', source))


# --- the source: what is in it --------------------------------------------------------------------


def test_every_node_and_every_edge_is_drawn_in_order():
    y = neuron()
    order = topological_order(y)
    source = draw(y).source
    for i, node in enumerate(order):
        assert f'"node-{i}"' in source
        assert draw(y).box(node) == f"node-{i}"
    assert edges(source) == [
        (i, k) for i, node in enumerate(order) for k in range(len(node.operands))
    ]


@pytest.mark.parametrize("square", [lambda x: x * x, lambda x: x + x, lambda x: affine([x], [x])])
def test_a_node_used_twice_has_two_edges(square):
    x = Value(3.0, label="x")
    source = draw(square(x), show_constants=False).source
    assert len(re.findall(r'"node-0":?\w* -> "node-1"', source)) == 2


@st.composite
def graphs(draw_from):
    nodes = [Value(float(i + 1), label="x") for i in range(3)]
    for _ in range(draw_from(st.integers(1, 20))):
        a, b = draw_from(st.sampled_from(nodes)), draw_from(st.sampled_from([*nodes, 2.0]))
        op = draw_from(st.sampled_from([Value.__add__, Value.__mul__, lambda a, b: tanh(a)]))
        nodes.append(op(a, b))
    return nodes[-1]


@given(graphs())
def test_each_edge_carries_its_local_derivative_and_equal_graphs_give_equal_bytes(root):
    source = draw(root, collapse="none").source
    order = topological_order(root)
    values = [(i, k) for i, node in enumerate(order) for k, operand in enumerate(node.operands)]
    assert edges(source) == values
    for i, node in enumerate(order):
        local = iter(node.local_grads)
        for k, operand in enumerate(node.operands):
            if isinstance(operand, Value):
                line = next(text for text in source.splitlines() if f'"edge-{i}-{k}"' in text)
                assert float(re.search(r'\blabel="?([^ "\]]+)', line)[1]) == pytest.approx(
                    next(local), rel=1e-3
                )
    assert draw(copy.deepcopy(root), collapse="none").source == source


def test_the_order_of_hashing_does_not_change_a_byte():
    program = (
        "from micrograd_like import nn, draw\n"
        "model = nn.MLP(2, [3, 1], seed=0)\n"
        "y = model([1.0, 2.0]) * model([0.5, -1.0])\n"
        "y.backward()\n"
        "print(draw(y).source, draw(y, collapse='layer').source, draw(y, max_nodes=3).source)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def test_gradients_are_a_dash_before_a_backward_pass_and_numbers_after_it():
    y = neuron()
    assert draw(y).source.count(">–<") == len(topological_order(y))
    y.backward()
    source = draw(y).source
    assert "–" not in source
    assert ">-1.5<" in source
    assert re.search(r">grad</font></td><td [^>]*>0\.0<", source)  # a gradient that is 0 after it


def test_a_parameters_gradient_from_an_earlier_pass_is_shown_beside_fresh_nodes():
    w = Value(2.0, label="w")
    (w * 3.0).backward()
    source = draw(w * 5.0).source
    assert re.search(r">grad</font></td><td [^>]*>3\.0<", source)
    assert source.count("–") == 1  # the new node


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda c: c + 273.15, "v1 = c + 273.15"),
        (lambda c: c - 1999.5, "v1 = c - 1999.5"),
        (lambda c: c * 19991231.0, "v1 = c·19991231"),
        (lambda c: c**2.0001, "v1 = c^2.0001"),
        (lambda c: c**2.0, "v1 = c²"),
        (lambda c: c * (1.0 / 3.0), "v1 = c·0.3333"),
    ],
)
def test_constants_are_rounded_only_where_they_are_long(make, formula):
    assert f"{formula}<" in draw(make(Value(2.0, label="c"))).source


def test_numbers_have_significant_digits():
    y = Value(1e-5, label="x") * 123456.0
    y.backward()
    source = draw(y).source
    assert "1e-05" in source
    assert "1.235e+05" in source


def test_signs_and_magnitudes_of_gradients_have_their_colours():
    x, y = Value(1.0, label="x"), Value(1.0, label="y")
    z = x * 8.0 - y * 0.001 + 0.0 * Value(1.0, label="z")
    z.backward()
    cells = r'<b>(\w)</b></td>.*?<td bgcolor="(#\w+)"'
    shade = dict(re.findall(cells, draw(z).source))
    assert shade["x"] == drawing.POSITIVE[-1]
    assert shade["y"] == drawing.NEGATIVE[0]
    assert shade["z"] == "#ffffff"


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("hide", ["grad", "data", ["data", "grad"]])
def test_a_worksheet_has_blanks_for_what_is_hidden(hide):
    y = neuron()
    y.backward()
    source, full = draw(y, hide=hide).source, draw(y).source
    hidden = {hide} if isinstance(hide, str) else {*hide}
    for what in ("data", "grad"):
        cells = re.findall(rf">{what}</font></td><td [^>]*>([^<]*)<", source)
        assert len(cells) == len(topological_order(y))
        assert (set(cells) == {"_____"}) is (what in hidden)
    told = [c for c in (*drawing.POSITIVE, *drawing.NEGATIVE) if c in source]
    assert (told == []) is ("grad" in hidden)  # a colour would say the sign
    assert any(c in full for c in drawing.POSITIVE)
    with pytest.raises(InputError, match="hide takes data and grad, not 'label'"):
        draw(y, hide="label")


def test_every_colour_leaves_the_numbers_legible():
    for color in (*drawing.POSITIVE, *drawing.NEGATIVE, drawing.UNDEFINED):
        assert (luminance(color) + 0.05) / (luminance(drawing.INK) + 0.05) > 7.0


def test_parameters_inputs_constants_and_operations_have_different_shapes():
    source = draw(Value(1.0, label="w1") * Value(2.0, label="x1") + 3.0).source
    by_id = {m[1]: m[0] for m in re.finditer(r'(?m)^\t"([\w-]+)" \[[^<]*.*', source)}
    shapes = [re.search(r"shape=(\w+)", by_id[i]) for i in ("node-0", "node-1", "node-2")]
    assert [shape and shape[1] for shape in shapes] == ["box", "box", None]
    assert ["peripheries=2" in by_id[i] for i in ("node-0", "node-1")] == [True, False]
    assert 'style="rounded"' in by_id["node-2"]
    assert "shape=plaintext" in by_id["const-3-1"]


def test_labels_that_are_no_names_and_negative_numbers_stand_in_parentheses():
    s = Value(2.0, label="a + b")
    assert "= (a + b)·3<" in draw(s * 3.0).source
    assert "= (-2)^(a + b)<" in draw((-2.0) ** s).source


def test_parameters_can_be_named():
    theta = Value(1.0, label="slope")
    assert "peripheries" not in draw(theta * 2.0).source
    assert "peripheries=2" in draw(theta * 2.0, parameters=[theta]).source


@pytest.mark.parametrize(
    ("label", "is_parameter"),
    [
        ("w", True), ("w1", True), ("W_12", True), ("b", True), ("w[3]", True), ("θ", True),
        ("layers[0].neurons[1].b", True), ("layers[0].gamma", True), ("encoder.weight", True),
        ("x", False), ("banana", False), ("width", False), ("", False), ("x.y", False),
    ],
)  # fmt: skip
def test_a_parameter_is_told_by_its_label(label, is_parameter):
    assert ("peripheries=2" in draw(tanh(Value(1.0, label))).source) is is_parameter


def test_constants_can_be_left_out():
    y = Value(2.0, label="x") ** 2 * 3.0
    assert "const-" in draw(y).source
    assert "const-" not in draw(y, show_constants=False).source


def test_highlighted_nodes_have_a_heavy_border():
    y = neuron()
    leaf = topological_order(y)[0]
    assert 'border="3"' not in draw(y).source
    assert 'border="3"' in draw(y, highlight=[y]).source
    assert "penwidth=3" in draw(y, highlight=[leaf]).source


def test_several_roots_share_their_nodes():
    x = Value(2.0, label="x")
    picture = draw([x * 2.0, x * 3.0], show_constants=False)
    assert len(edges(picture.source)) == 2
    assert picture.source.count("<b>x</b>") == 1


def test_the_direction_is_left_to_right_or_top_to_bottom():
    assert "rankdir=LR" in draw(neuron()).source
    assert "rankdir=TB" in draw(neuron(), direction="TB").source


def test_a_made_up_op_is_drawn_by_its_row(made_up):
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3 * x * x, text="@x³", binding=4)
    x = Value(1.5, label="x")
    assert " = x³<" in draw(cube(x)).source
    plain = made_up("plain", lambda x: 2 * x, lambda x, out: 2.0)
    assert "= plain(x)<" in draw(plain(x)).source


@pytest.mark.parametrize(
    "options",
    [{"direction": "RL"}, {"collapse": "all"}, {"max_nodes": 0}, {"max_nodes": "many"}],
)
def test_unknown_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        draw(neuron(), **options)


def test_a_variadic_op_of_many_operands_is_written_with_an_ellipsis():
    assert "logsumexp(…)" in draw(logsumexp(*map(Value, range(20)))).source


def test_what_is_no_value_is_refused():
    with pytest.raises(OperandError):
        draw(3.0)
    with pytest.raises(OperandError):
        draw([neuron(), "y"])
    with pytest.raises(InputError, match="not in this drawing"):
        draw(neuron()).box(Value(1.0))


# --- collapsing -----------------------------------------------------------------------------------


def example(fused=True):
    model = nn.MLP(2, [16, 16, 1], seed=0, fused=fused)
    return model, model([Value(1.0, label="x[0]"), Value(-2.0, label="x[1]")])


def moons_loss(fused=True):
    model = nn.MLP(2, [16, 16, 1], seed=0, fused=fused)
    data = moons(100)
    losses = [
        (1 - (1.0 if label else -1.0) * model(x)).relu()
        for x, label in zip(data.X, data.y, strict=True)
    ]
    return sum(losses) / 100 + 1e-4 * sum(p * p for p in model.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_a_network_on_one_example_has_a_box_a_neuron(fused):
    model, y = example(fused)
    picture = draw(y, collapse="neuron")
    boxes = {picture.box(node) for node in topological_order(y)}
    assert len(boxes) == 33 + 2
    first = model.layers[0].neurons[0]
    assert {picture.box(p) for p in first.parameters()} == {picture.box(first.w[0])}
    assert "layers[0].neurons[15]" in picture.source
    assert "3 parameters" in picture.source
    assert draw(y).source == picture.source or not fused


@pytest.mark.parametrize("fused", [True, False])
def test_a_network_collapses_into_its_layers(fused):
    _, y = example(fused)
    y.backward()
    source = draw(y, collapse="layer").source
    assert source.count("<b>layers[") == 3
    assert "48 parameters" in source
    assert "272 parameters" in source
    assert "17 parameters" in source
    norm = sum(p.grad**2 for p in topological_order(y) if p.label.startswith("layers[1]")) ** 0.5
    assert f"{norm:.4g}" in source
    assert "404 nodes" in source or not fused


def test_the_loss_over_100_examples_is_a_readable_picture():
    loss = moons_loss()
    loss.backward()
    picture = draw(loss)
    boxes = {picture.box(node) for node in topological_order(loss)}
    assert len(boxes) <= 20
    assert "used 100 times" in picture.source
    assert "100 × relu(x)" in picture.source
    assert "48 × x·x" in picture.source
    assert "100 × c·x" in picture.source  # half of the factors are -1
    assert "100 × (1 - x)" in picture.source


@given(st.lists(st.sampled_from([-1.0, 1.0, 2.5]), min_size=20, max_size=20))
def test_a_merged_box_says_nothing_that_is_not_true_of_all_its_nodes(factors):
    model = nn.MLP(1, [2, 1], seed=0)
    outputs = [model([0.1 * i]) for i in range(20)]
    terms = [a * c - (1.0 - c) * b for a, b, c in zip(outputs, outputs[1:], factors, strict=False)]
    source = draw(sum(terms) + model.layers[0].neurons[0].b, collapse="layer").source
    first, second = {*factors[:-1]}, {1.0 - c for c in factors[:-1]}
    c, d = (f"{which.pop():g}" if len(which) == 1 else "c" for which in (first, second))
    assert f"19 × x·{f'({c})' if c == '-1' else c}<" in source
    assert f"19 × {d}·x<" in source


def test_long_names_that_differ_at_the_end_are_told_apart():
    weights = [
        Value(1.0, f"decoder.blocks[0].attention.heads[1].queries.rows[3].w[{k}]") for k in (0, 1)
    ]
    source = draw(weights[0] * weights[1]).source
    assert all(f"rows[3].w[{k}]</b>" in source for k in (0, 1))


def test_long_labels_that_differ_in_the_middle_alone_are_told_apart():
    a, b = (Value(2.0, label=f"encoder.blocks[10].attention.heads[{k}].query.w[7]") for k in "34")
    shown = re.findall(r"<b>(encoder[^<]*)</b>", draw(a * b).source)
    assert len({*shown}) == 2
    assert shown[1] == f"{shown[0]}_2"


def test_leaves_without_a_label_are_not_called_inputs():
    weights, points = [[Value(k / 9.0) for k in range(n)] for n in (6, 40)]
    loss = sum(tanh(w * x) for x in points for w in weights)
    assert "46 leaves" in draw(loss, collapse="layer").source
    assert "inputs" not in draw(loss, collapse="layer").source


def test_squares_and_products_in_one_box_are_products():
    model = nn.MLP(1, [2, 1], seed=0)
    a, b = model.layers[0].neurons[0].w[0], model.layers[0].neurons[1].w[0]
    outputs = [model([0.1 * i]) for i in range(20)]
    squares = [y * y for y in outputs]
    assert "20 × x·x<" in draw([sum(squares)], collapse="layer", max_nodes=8).source
    both = [a * a, b * b, a * b]
    assert "3 × x·y<" in draw([sum(both) + sum(outputs)], collapse="layer", max_nodes=10).source


def test_what_is_too_long_to_be_named_is_not_called_as_another_node():
    x, y = Value(2.0, "x"), Value(3.0, "y")
    state, weight = Value(5.0, "previous_hidden_state"), Value(7.0, "recurrent_weight")
    source = draw(state * weight + x * y).source
    assert source.count("x·y") == 1
    assert "z·u" in source


def test_a_layer_whose_neurons_are_used_unlike_says_so():
    cell, h = nn.Layer(3, 2, "tanh", seed=0), [0.0, 0.0]
    for _ in range(8):
        h = cell([0.5, *h])
    assert "used up to 8 times" in draw(h[0], collapse="layer").source
    assert "used 8 times" in draw(h[0] + h[1], collapse="layer").source


def test_the_box_of_a_neuron_has_its_output():
    model = nn.MLP(2, [3, 1], seed=2)
    y = model([1.0, -2.0])
    boxes = re.findall(
        r"<b>([^<]*)</b>.*?>data</font></td><td [^>]*>([^<]*)<", draw(y, collapse="neuron").source
    )
    shown = {name: float(data) for name, data in boxes}
    assert len(shown) == 4
    assert shown["layers[1].neurons[0]"] == pytest.approx(y.data, rel=1e-3)
    hidden = [float(f"{neuron([1.0, -2.0]).data:.4g}") for neuron in model.layers[0].neurons]
    assert [shown[f"layers[0].neurons[{i}]"] for i in range(3)] == hidden
    twice = draw(y + model([1.0, 1.0]), collapse="neuron").source
    assert twice.count(">data<") == 1  # of the sum: no neuron has one output


def test_a_loss_keeps_out_of_the_neurons():
    model = nn.MLP(2, [3, 1], seed=0)
    score = model([1.0, 2.0])
    loss = (1 - score).relu() + model.layers[0].neurons[0].w[0] ** 2
    picture = draw(loss, collapse="neuron")
    score_box = picture.box(score)
    assert score_box == picture.box(model.layers[1].neurons[0].b)
    assert picture.box(loss) not in {picture.box(p) for p in model.parameters()}
    assert len({picture.box(node) for node in topological_order(loss)}) == 4 + 4
    loss = softplus(score)  # the loss of an example of the negative class
    loss.label = "loss"
    assert draw(loss, collapse="neuron").box(loss).startswith("node-")
    model = nn.MLP(2, [3, 1], "tanh", seed=0)
    outputs = [model([0.5, x]) for x in (1.0, 2.0, 3.0)]
    source = draw(
        losses.binary_cross_entropy_with_logits(outputs, [1.0, 0.0, 0.0]), collapse="layer"
    ).source
    assert ">4 parameters, used 3 times<" in source
    assert ">3 neurons, tanh, 9 parameters, used 3 times<" in source
    of_two_classes = losses.cross_entropy(nn.MLP(2, [3, 2], "tanh", seed=0)([1.0, 2.0]), 0)
    assert "2 neurons, 8 parameters" in draw(of_two_classes, collapse="layer").source


def test_networks_behind_one_another_keep_their_neurons_apart():
    class Pair(nn.Module):
        def __init__(self):
            self.encoder = nn.MLP(3, [4, 2], seed=0)  # with a linear output
            self.decoder = nn.MLP(2, [4, 1], seed=1)
            label_parameters(self)

    pair = Pair()
    y = pair.decoder(pair.encoder([1.0, 2.0, 3.0]))
    picture = draw(y, collapse="neuron")
    assert len({picture.box(node) for node in topological_order(y)}) == 4 + 2 + 4 + 1
    total = y + pair.decoder([1.0, 2.0])  # two outputs of one neuron are added outside of it
    picture = draw(total, collapse="neuron")
    assert picture.box(total) != picture.box(y)
    assert picture.box(total).startswith("node-")


def test_many_constants_of_one_node_are_drawn_as_one():
    source = draw(nn.Neuron(20, seed=0)([0.5] * 20), collapse="none").source
    assert source.count('label="20 numbers"') == 1
    total = affine([1.0] * 10, [Value(float(i)) for i in range(10)])
    assert "= w·x + b<" in draw(total).source


def test_a_small_network_is_not_collapsed():
    picture = draw(nn.MLP(1, [1], seed=0)([2.0]))
    assert "box-" not in picture.source


def test_shared_weights_make_a_loop_and_not_an_error():
    cell = nn.Neuron(2, seed=0)
    layer = nn.Layer(2, 2, seed=0)
    label_parameters(layer)
    h = [0.0, 0.0]
    for _ in range(30):
        h = layer(h)
    y = h[0] + h[1] + cell([1.0, 2.0])
    assert draw(y, collapse="layer").source


def test_an_unlabelled_graph_is_cut_and_says_how_much_more_there_is():
    x = Value(1.0)
    for _ in range(500):
        x = x * 1.01 + 0.1
    source = draw(x, max_nodes=50).source
    assert "… 951 more nodes" in source
    assert draw(x, max_nodes=50).box(x) == "node-1000"
    assert len(re.findall(r"^\s*\"?node-\d+\"? \[", source, re.MULTILINE)) == 50


def test_a_large_network_collapses_into_its_layers():
    model = nn.MLP(8, [16, 16, 4], seed=0)
    total = sum(sum(model([float((i * k) % 7) for k in range(8)])) for i in range(200))
    picture = draw(total)
    assert "used 200 times" in picture.source
    assert len({picture.box(node) for node in topological_order(total)}) < 10


def test_a_deep_graph_is_drawn_without_recursion():
    x = Value(1.0, label="x")
    for _ in range(20_000):
        x = x + 1.0
    assert "more nodes" in draw(x).source


# --- rendering ------------------------------------------------------------------------------------


def test_the_picture_shows_label_operation_data_and_gradient(renderer):
    y = neuron()
    y.backward()
    shown = texts(draw(y).svg)
    order = topological_order(y)
    for i, node in enumerate(order):
        text = " ".join(shown[f"node-{i}"])
        assert node.label in text
        assert f"{node.data:.4g}" in text
        assert f"{node.grad:.4g}" in text
    assert "tanh(" in " ".join(shown[f"node-{len(order) - 1}"])
    assert shown[f"edge-{len(order) - 1}-0"] == ["0.5"]


@pytest.mark.parametrize("label", HOSTILE)
def test_labels_are_data(renderer, label):
    x = Value(2.0, label=label)
    y = x * x
    y.label = label
    picture = draw(y)
    shown = "".join(texts(picture.svg)["node-0"]).replace("\xa0", " ")
    expected = label[:20].replace("\r\n", "\n").replace("\n", "↵")
    expected = re.sub("[\t\x00\x07\ud800]", "\ufffd", expected)
    assert expected.split()[0] in shown
    assert "<script>alert" not in picture.svg
    assert "<script>alert" not in picture._repr_html_()


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=30))
@instance("]]")
def test_any_label_gives_well_formed_svg(label):
    if not programs():
        pytest.skip("no renderer is installed")
    y = tanh(Value(2.0, label=label))
    assert "node-1" in texts(draw(y).svg)


@pytest.mark.parametrize("renderer", ["dot", "graphviz-pure"], indirect=True)
def test_save_writes_the_format_of_the_suffix(renderer, tmp_path):
    picture = draw(neuron())
    picture.save(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text(encoding="utf-8") == picture.svg
    picture.save(str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    picture.save(tmp_path / "x.dot")
    assert (tmp_path / "x.dot").read_text(encoding="utf-8") == picture.source
    if renderer == "dot":
        picture.save(tmp_path / "x.pdf")
        assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    else:
        with pytest.raises(RendererError, match=r"cannot write 'pdf'.*apt install graphviz"):
            picture.save(tmp_path / "x.pdf")
        assert not (tmp_path / "x.pdf").exists()
    with pytest.raises(RendererError, match="xyz"):
        picture.save(tmp_path / "x.xyz")
    with pytest.raises(InputError, match="suffix"):
        picture.save(tmp_path / "x")


def test_networks_and_their_losses_are_laid_out_uncut(renderer):
    for make in (lambda: example()[1], moons_loss):
        root = make()
        root.backward()
        picture = draw(root)
        source = picture.source
        assert "layers[0]" in picture.svg
        assert picture.source == source


def extent(group):
    """(left, top, right, bottom) of all that is drawn of a node."""
    numbers = [
        float(x)
        for shape in group
        for x in re.findall(r"-?[\d.]+", shape.get("points") or shape.get("d") or "")
    ]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def pictured():
    y = neuron()
    y.backward()
    model = nn.MLP(2, [3, 2], seed=2)
    outputs = model([Value(1.0, "x1"), Value(2.0, "x2")])
    loss = (outputs[0] - 1.0) ** 2 + (outputs[1] * 1e-5) ** 2
    loss.backward()
    wide = Value(1.0, label="mmm WWW @@@ %%% éé λ") * Value(-1.2345e-7, label="iiillljjj[0]").exp()
    return [draw(y), draw(loss), draw(loss, collapse="neuron", direction="TB"), draw(wide)]


def test_arrows_begin_and_end_on_boxes(renderer):
    for picture in pictured():
        tree = ElementTree.fromstring(picture.svg.split("]>")[-1])
        boxes = {g.get("id"): extent(g) for g in tree.iter(f"{SVG}g") if g.get("class") == "node"
                 and "const" not in g.get("id")}  # fmt: skip
        arrows = [g for g in tree.iter(f"{SVG}g") if g.get("class") == "edge"]
        assert len(arrows) > 2
        for arrow in arrows:
            tail, head = arrow.find(f"{SVG}title").text.split("->")
            path = arrow.find(f"{SVG}path").get("d")
            (tip,) = [extent([p]) for p in arrow.iter(f"{SVG}polygon")]
            start = [float(x) for x in re.findall(r"-?[\d.]+", path)[:2]]
            for box, (left, top, right, bottom) in (
                (boxes.get(tail), (*start, *start)), (boxes[head], tip)
            ):  # fmt: skip
                if box:
                    away = max(box[0] - right, left - box[2], box[1] - bottom, top - box[3])
                    assert away < 2.0, (tail, head)


def test_boxes_keep_clear_of_one_another(renderer):
    for picture in pictured():
        tree = ElementTree.fromstring(picture.svg.split("]>")[-1])
        boxes = [extent(g) for g in tree.iter(f"{SVG}g") if g.get("class") == "node"
                 and "const" not in g.get("id")]  # fmt: skip
        for a, b in combinations(boxes, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_text_stays_in_its_place_in_the_fonts_that_viewers_have(renderer):
    """The picture is laid out for Arial. DejaVu Sans, the widest in use, is in matplotlib."""
    font_manager = pytest.importorskip("matplotlib.font_manager")
    from matplotlib.ft2font import FT2Font

    fonts = {
        weight: FT2Font(font_manager.findfont(f"DejaVu Sans:{weight}")) for weight in
        ("regular", "bold")
    }  # fmt: skip

    def width(text):
        font = fonts[text.get("font-weight", "regular")]
        font.set_size(float(text.get("font-size")), 72)
        font.set_text(text.text)
        return font.get_width_height()[0] / 64

    for picture in pictured():
        tree = ElementTree.fromstring(picture.svg.split("]>")[-1])
        for box in tree.iter(f"{SVG}g"):
            if box.get("class") != "node" or "const" in box.get("id"):
                continue
            lines = {}
            for text in box.iter(f"{SVG}text"):
                lines.setdefault(round(float(text.get("y"))), []).append(text)
            for line in lines.values():
                ends = [float(text.get("x")) + width(text) for text in line]
                limits = [float(text.get("x")) for text in line[1:]] + [extent(box)[2]]
                for text, end, limit in zip(line, ends, limits, strict=True):
                    assert end <= limit, (text.text, end, limit)


def test_parameters_and_inputs_stand_in_the_models_order(renderer):
    unit = nn.Neuron(3, seed=0)
    inputs = [Value(float(i), label=f"x{i}") for i in range(3)]
    picture = draw(unit(inputs), collapse="none")
    tree = ElementTree.fromstring(picture.svg.split("]>")[-1])
    tops = {g.get("id"): extent(g)[1] for g in tree.iter(f"{SVG}g") if g.get("class") == "node"}
    for group in (unit.w, inputs):
        places = [tops[picture.box(leaf)] for leaf in group]
        assert places == sorted(places)


def test_show_opens_the_picture_in_the_browser(renderer, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    picture = draw(neuron())
    path = picture.show()
    try:
        assert opened == [path.as_uri()]
        assert path.read_text(encoding="utf-8") == picture.svg
    finally:
        path.unlink()


def test_a_notebook_shows_an_image_of_data(renderer):
    picture = draw(neuron())
    shown = re.fullmatch(
        r'<div style="overflow-x:auto"><img alt="computation graph" style="max-width:none" '
        r'src="data:image/svg\+xml;base64,(.*)"></div>',
        picture._repr_html_(),
    )
    assert base64.b64decode(shown[1]).decode() == picture.svg


def test_without_a_renderer_the_source_works_and_the_error_names_both_remedies(
    no_renderer, tmp_path
):
    picture = draw(neuron())
    assert picture.source.startswith("digraph")
    for attempt in (lambda: picture.svg, lambda: picture.save(tmp_path / "x.png")):
        with pytest.raises(RendererError, match="apt install graphviz") as caught:
            attempt()
        assert ".[svg]'" in str(caught.value)
        assert isinstance(caught.value, MicrogradError)
    assert "digraph" in picture._repr_html_()
    assert ".[svg]" in picture._repr_html_()


def test_a_renderer_that_fails_is_an_error_with_its_words(monkeypatch, tmp_path):
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho 'out of ink' >&2\nexit 3\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(drawing, "renderer", lambda: str(program))
    with pytest.raises(RendererError, match=r"status 3.*out of ink"):
        draw(neuron()).svg  # noqa: B018


def test_a_layout_that_takes_too_long_is_retried_once_on_a_smaller_cut(monkeypatch, tmp_path):
    program = tmp_path / "dot"  # slow for more than 30 boxes
    program.write_text(
        "#!/bin/sh\nn=$(grep -c 'id=\"node-')\n"
        '[ $n -gt 30 ] && exec sleep 60\necho "<svg>$n</svg>"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(drawing, "renderer", lambda: str(program))
    monkeypatch.setattr(drawing, "LAYOUT_SECONDS", 0.5)
    x = Value(1.0)
    for _ in range(100):
        x = x * 1.5
    picture = draw(x, show_constants=False)
    before = picture.source
    with pytest.warns(
        MicrogradWarning, match=r"101 boxes takes longer than 0\.5 s.*: 25 are drawn"
    ):
        assert picture.svg.startswith("<svg>")
    assert picture.source != before
    assert "more nodes" in picture.source
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    with (
        pytest.warns(UserWarning, match="25 are drawn"),
        pytest.raises(RendererError, match=r"longer than 0\.5 seconds.*max_nodes"),
    ):
        draw(x).svg  # noqa: B018


def test_a_node_that_is_used_everywhere_is_drawn_in_time_and_uncut(renderer):
    x = v = Value(1.0, label="x")
    for _ in range(60):
        v = v * x + 1.0
    picture = draw(v)
    assert "more nodes" not in picture.source
    assert "more nodes" not in picture.svg


def test_highlight_and_parameters_are_values_one_or_several():
    y = neuron()
    assert draw(y, highlight=y).source == draw(y, highlight=[y]).source
    leaf = topological_order(y)[1]
    assert draw(y, parameters=leaf).source == draw(y, parameters=[leaf]).source
    with pytest.raises(OperandError, match="highlight"):
        draw(y, highlight="y")
    with pytest.raises(OperandError, match="parameters"):
        draw(y, parameters=["w"])


def test_drawing_changes_nothing():
    y = neuron()
    y.backward()
    state = [(v.data, v.grad, v.label) for v in topological_order(y)]
    draw(y).source  # noqa: B018
    assert [(v.data, v.grad, v.label) for v in topological_order(y)] == state


def test_a_layers_neurons_stand_in_order():
    model = nn.MLP(2, [4, 1], seed=0)
    source = draw(model([1.0, 2.0]), collapse="neuron").source
    (row,) = re.findall(r"\{\s*rank=same(.*?)\}", source, re.DOTALL)
    assert row.count("style=invis") == 3


def test_the_side_that_is_not_taken_is_drawn_with_dashed_edges() -> None:
    x = Value(1000.0, "x")
    y = where(greater(0.0, x), x.exp(), 1 + x * x)
    source = draw(y).source
    order = topological_order(y, untaken=True)
    names = {node.op.name: f"node-{i}" for i, node in enumerate(order) if node.op}
    root = names["where"]
    for kind in ("exp", "greater"):
        assert re.search(rf'"?{names[kind]}"? -> "?{root}"? \[id="[^"]*" style=dashed\]', source)
    assert re.search(rf'"?{names["add"]}"? -> "?{root}"? \[label="?1.0"? id', source)


def test_a_choice_is_explained_on_the_side_that_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = Value(1000.0, "x")
    explain(x, where(greater(0.0, x), x.exp(), 1 + x * x))
    assert capsys.readouterr().out.rstrip().endswith("= 2000.0")


def test_a_picture_says_where_data_was_changed_since_its_numbers_were_recorded():
    model, x = nn.MLP(2, [3, 1], seed=0), Value(0.5, "x")
    for root, changed in ((x * x, x), (model([0.5, 1.0]), model.parameters()[0])):
        assert "changed" not in draw(root).source
        changed.data += 1.0
        for collapse in ("auto", "none"):
            assert "as recorded: data was changed since" in draw(root, collapse=collapse).source
