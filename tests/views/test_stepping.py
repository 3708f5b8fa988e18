"""`steps`: what an event says, and that the events are the passes that the engine makes."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import VALUE, Program, programs

from micrograd_like import Op, Value, affine, grad, logaddexp, nn, ops, topological_order
from micrograd_like.errors import InputError, OperandError
from micrograd_like.views.pages import MOST_STEPS, player
from micrograd_like.views.stepping import Transfer, steps

INF, NAN = math.inf, math.nan


def lecture() -> tuple[Value, dict[str, Value]]:
    """L = (a·b + c)·f, as in the lecture on micrograd."""
    nodes = {"a": Value(2.0), "b": Value(-3.0), "c": Value(10.0), "f": Value(-2.0)}
    nodes["e"] = nodes["a"] * nodes["b"]
    nodes["d"] = nodes["e"] + nodes["c"]
    nodes["L"] = nodes["d"] * nodes["f"]
    for label, node in nodes.items():
        node.label = label
    return nodes["L"], nodes


def bits(x: float) -> bytes:
    return b"NaN" if math.isnan(x) else struct.pack("d", x)


def graph_of(root: Value) -> list[tuple[bytes, bytes, str]]:
    return [(bits(v.data), bits(v.grad), v.label) for v in topological_order(root)]


def assert_replays(root: Value, seed: float = 1.0) -> None:
    """Fail where the events of `root` do not give what `backward` leaves, to the bit."""
    before = graph_of(root)
    passes = steps(root, seed)
    str(passes)
    assert graph_of(root) == before, "steps changed the graph"
    root.backward(seed)
    want = {node: node.grad for node in topological_order(root)}
    assert len(passes.backward) == len(want)
    assert [bits(e.after) for e in passes.backward] == [bits(want[e.node]) for e in passes.backward]
    running = dict.fromkeys(want, 0.0)
    running[root] = seed
    for event in passes.backward:
        assert bits(event.adjoint) == bits(running[event.node])
        for edge in event.edges:
            assert edge.child is event.node
            assert edge.parent is event.node.operands[edge.operand]
            assert bits(edge.before) == bits(running[edge.parent])
            assert bits(edge.contribution) == bits(edge.adjoint * edge.local)
            assert bits(edge.after) == bits(edge.before + edge.contribution)
            running[edge.parent] = edge.after


# --- the passes -----------------------------------------------------------------------------------


def test_there_is_one_event_a_node_and_pass_in_the_order_of_execution() -> None:
    root, _ = lecture()
    passes = steps(root)
    order = topological_order(root)
    assert [event.node for event in passes.forward] == order
    assert [event.node for event in passes.backward] == order[::-1]
    assert [event.phase for event in passes] == ["forward"] * 7 + ["backward"] * 7
    assert [event.index for event in passes] == list(range(14))
    assert len(passes) == 14
    assert passes[0] is passes.forward[0]
    assert passes[-1] is passes.backward[-1]
    assert passes[6:8] == [passes.forward[-1], passes.backward[0]]
    with pytest.raises(IndexError):
        passes[14]


@pytest.mark.parametrize("fused", [True, False])
def test_neurons_have_their_turns_in_order_and_leaves_right_before_they_are_used(
    fused: bool,
) -> None:
    model = nn.MLP(2, [3, 2, 1], seed=0, fused=fused)
    nodes = [event.node for event in steps(model([Value(1.0), Value(2.0)])).forward]
    neurons = [match[1] for node in nodes if (match := re.match(r"(.*)\.w\[0\]", node.label))]
    for layer in range(3):
        inside = [name for name in neurons if name.startswith(f"layers[{layer}]")]
        assert inside == sorted(inside)
        assert len(inside) == [3, 2, 1][layer]
    users = {}
    for k, node in enumerate(nodes):
        for parent in node.parents:
            users.setdefault(parent, k)
    for k, node in enumerate(nodes):
        if node.op is None:
            between = nodes[k + 1 : users[node]]
            assert all(other.op is None for other in between)


def test_the_edges_are_the_operands_that_are_nodes() -> None:
    x = Value(3.0)
    y = 2 * x
    (edge,) = steps(y).forward[-1].edges
    assert (edge.child, edge.operand, edge.parent, edge.local) == (y, 1, x, 2.0)
    z = affine([1.0, x], [x, 4.0], x)
    assert [edge.operand for edge in steps(z).backward[0].edges] == [1, 2, 4]
    assert [edge.local for edge in steps(z).backward[0].edges] == [4.0, 1.0, 1.0]


def test_before_and_after_are_the_value_and_then_the_gradient() -> None:
    root, nodes = lecture()
    nodes["a"].grad, nodes["e"].grad = 5.0, 7.0
    passes = steps(root)
    forward = {event.name: (event.before, event.after) for event in passes.forward}
    backward = {event.name: (event.before, event.after) for event in passes.backward}
    assert forward["e"] == (None, -6.0)
    assert backward == {
        "L": (0.0, 1.0),
        "f": (0.0, 4.0),
        "d": (0.0, -2.0),
        "c": (0.0, -2.0),
        "e": (0.0, -2.0),
        "b": (0.0, -4.0),
        "a": (5.0, 11.0),
    }
    assert passes.backward[-1].adjoint == 6.0


@given(programs(), st.floats(-4, 4), st.floats(-4, 4))
def test_on_any_graph_the_events_replay_to_the_gradients_of_backward(
    program: Program, seed: float, before: float
) -> None:
    inputs = [Value(x) for x in program.inputs]
    root = program.run(inputs, VALUE)[-1]
    assert_replays(root)
    for leaf in inputs:
        leaf.grad = before
    assert_replays(root, seed)


@given(st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_the_same_holds_for_sums_of_products_with_repeated_operands(
    drawn: list[tuple[float, int]],
) -> None:
    pool: list[Value] = [Value(0.1), Value(-0.7), Value(1.3), Value(0.3)]
    for weight, i in drawn:
        pool.append(affine([pool[i], pool[-1], weight], [pool[i], 0.3, pool[-2]], pool[i]).tanh())
    assert_replays(pool[-1] * pool[-1])


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x * x,
        lambda x: x * x + x * x,
        lambda x: ops.where(x, x, x),
        lambda x: ops.logsumexp(x, x, 1.0, x),
        lambda x: x * INF - x * INF,
        lambda x: ops.sqrt(x - x) * 0.0,
    ],
)
def test_repeated_operands_infinities_and_nan_replay_too(make: Callable[[Value], Value]) -> None:
    for before in [0.0, -0.0, 0.1]:
        x = Value(3.0, label="x")
        x.grad = before
        assert_replays(make(x))
        str(steps(make(x)))


def test_steps_change_nothing_and_refuse_what_is_no_graph() -> None:
    root, _ = lecture()
    root.backward()
    before = graph_of(root)
    str(steps(root))
    repr(steps(root))
    assert graph_of(root) == before
    for nonsense in [3.0, "L", None, [root]]:
        with pytest.raises(OperandError):
            steps(nonsense)  # type: ignore[arg-type]
    with pytest.raises(OperandError):
        steps(root, seed="1")  # type: ignore[arg-type]


def test_a_graph_of_any_depth_has_its_steps() -> None:
    x = y = Value(0.5)
    for _ in range(50_000):
        y = y.sin() + x
    passes = steps(y)
    assert len(passes) == 2 * 100_001
    assert {event.node: event.after for event in passes.backward}[x] == grad(y, x)
    assert repr(passes) == "<200002 steps: print(steps) shows them>"


# --- the formulas ---------------------------------------------------------------------------------


def test_the_formulas_are_those_of_the_lecture() -> None:
    root, _ = lecture()
    forward = {event.name: event.formula for event in steps(root).forward}
    assert forward == {
        "a": "a = 2.0",
        "b": "b = -3.0",
        "e": "e = a·b = 2.0 · (-3.0) = -6.0",
        "c": "c = 10.0",
        "d": "d = e + c = -6.0 + 10.0 = 4.0",
        "f": "f = -2.0",
        "L": "L = d·f = 4.0 · (-2.0) = -8.0",
    }
    backward = {event.name: event for event in steps(root).backward}
    assert backward["L"].formula.splitlines() == [
        "∂L/∂L = 1.0",
        "  ∂L/∂d += ∂L/∂L · ∂L/∂d = 1.0 · (-2.0) = -2.0",
        "  ∂L/∂f += ∂L/∂L · ∂L/∂f = 1.0 · 4.0 = 4.0",
    ]
    assert [str(edge) for edge in backward["e"].edges] == [
        "∂L/∂a += ∂L/∂e · ∂e/∂a = (-2.0) · (-3.0) = 6.0",
        "∂L/∂b += ∂L/∂e · ∂e/∂b = (-2.0) · 2.0 = -4.0",
    ]
    assert [edge.partial for edge in backward["e"].edges] == [
        "∂e/∂a = b = -3.0",
        "∂e/∂b = a = 2.0",
    ]
    assert backward["d"].edges[0].partial == "∂d/∂e = 1.0"
    assert backward["a"].formula == "∂L/∂a = 6.0"


def test_a_local_derivative_is_written_in_symbols_where_the_row_is() -> None:
    n = Value(0.5, label="n")
    for node, want in [
        (n.tanh(), "1 - y² = 0.7864"),
        (n.exp(), "y = 1.649"),
        (n**3, "3·n² = 0.75"),
        (1 / n, "-y / n = -4.0"),
        (n.relu(), "1(n > 0) = 1.0"),
        (n + 1, "1.0"),
    ]:
        node.label = "y"
        (edge,) = steps(node).backward[0].edges
        assert edge.partial == f"∂y/∂n = {want}"
        assert edge.symbols == want.rpartition(" = ")[0]


def test_a_leaf_that_held_a_gradient_shows_the_sum() -> None:
    root, nodes = lecture()
    nodes["a"].grad = 5.0
    assert steps(root).backward[-1].formula == "∂L/∂a = 6.0, a.grad += ∂L/∂a = 5.0 + 6.0 = 11.0"


def test_two_places_of_one_operand_are_told_apart() -> None:
    x = Value(3.0, label="x")
    y = x * x
    y.label = "y"
    assert [edge.partial for edge in steps(y).backward[0].edges] == [
        "∂y/∂x⁽¹⁾ = x = 3.0",
        "∂y/∂x⁽²⁾ = x = 3.0",
    ]


def test_constants_and_signs_and_powers_read_as_mathematics() -> None:
    x, y = Value(-3.0, label="x"), Value(-2.0, label="y")
    for node, want in [
        (x**2, "x² = (-3.0)² = 9.0"),
        (2 * x, "2·x = 2.0 · (-3.0) = -6.0"),
        (x - y, "x - y = -3.0 - (-2.0) = -1.0"),
        (-x, "-x = -(-3.0) = 3.0"),
        (abs(x), "|x| = |-3.0| = 3.0"),
        (logaddexp(x, y), "logaddexp(x, y) = logaddexp(-3.0, -2.0) = -1.687"),
        (x / 0.1, "x / 0.1 = -3.0 / 0.1 = -30.0"),
        (x * INF, "x·inf = -3.0 · inf = -inf"),
        (x * NAN, "x·nan = -3.0 · nan = nan"),
    ]:
        node.label = "z"
        assert steps(node).forward[-1].formula == f"z = {want}"


def test_of_many_terms_a_formula_shows_the_first_and_the_last() -> None:
    ws = [Value(float(i), label=f"w{i}") for i in range(1, 9)]
    xs = [Value(-1.0, label=f"x{i}") for i in range(1, 9)]
    z = affine(ws, xs, Value(0.5, label="b"))
    z.label = "z"
    passes = steps(z)
    assert passes.forward[-1].formula == (
        "z = w1·x1 + w2·x2 + w3·x3 + … + w8·x8 + b = "
        "1.0 · (-1.0) + 2.0 · (-1.0) + 3.0 · (-1.0) + … + 8.0 · (-1.0) + 0.5 = -35.5"
    )
    lines = passes.backward[0].formula.splitlines()
    assert len(lines) == 6
    assert lines[4].strip() == "… (13 more)"
    assert lines[5].strip().startswith("∂z/∂b += ")
    assert len(passes.backward[0].edges) == 17
    longest = ops.logsumexp(*xs)
    longest.label = "s"
    assert steps(longest).forward[-1].formula.startswith("s = logsumexp(x1, x2, x3, …, x8) = ")


def test_a_bias_of_zero_is_written_where_it_is_a_node() -> None:
    w, x = Value(2.0, label="w"), Value(3.0, label="x")
    z = affine([w], [x], Value(0.0, label="b"))
    assert steps(z).forward[-1].formula == "v1 = w·x + b = 2.0 · 3.0 + 0.0 = 6.0"
    assert steps(affine([w], [x])).forward[-1].formula == "v1 = w·x = 2.0 · 3.0 = 6.0"
    power = w ** Value(0.0, label="p")
    assert steps(power).forward[-1].formula == "v1 = w^p = 2.0⁰ = 1.0"


def test_names_that_are_no_words_get_parentheses_and_unnamed_nodes_a_name() -> None:
    a, b = Value(2.0, label="a"), Value(3.0, label="b")
    s = a + b
    s.label = "a + b"
    root = s * 2
    assert [event.formula for event in steps(root).forward][-2:] == [
        "a + b = a + b = 2.0 + 3.0 = 5.0",
        "v1 = (a + b)·2 = 5.0 · 2.0 = 10.0",
    ]
    assert steps(root).backward[1].edges[0].formula == (
        "∂v1/∂a += ∂v1/∂(a + b) · ∂(a + b)/∂a = 2.0 · 1.0 = 2.0"
    )


def test_a_name_that_stands_alone_in_a_local_derivative_needs_no_parentheses() -> None:
    s = Value(2.0, label="a + b")
    for node, want in [(s.sin(), "cos(a + b)"), (s * s, "a + b"), (s**3, "3·(a + b)²")]:
        assert steps(node).backward[0].edges[0].symbols == want


def test_a_label_never_breaks_a_line_nor_turns_it_round() -> None:
    for label in ["a\nb\r\u2028c", "\x1b[31m", "שלום", "\u202eevil", "x" * 10_000, "\x00"]:
        x = Value(2.0, label=label)
        y = x * x
        passes = steps(y)
        name = passes.forward[0].name
        assert len(name.splitlines()) == 1
        assert len(name) <= 42
        formula = passes.forward[1].formula
        assert len(formula.splitlines()) == 1
        assert len(formula) < 200
        assert "\x1b" not in formula
        assert "\u202e" not in formula
        if label[0] == "ש":
            assert f"\u2068{label}\u2069" in formula


def test_what_was_recorded_is_shown_when_data_was_changed_since() -> None:
    root, nodes = lecture()
    nodes["a"].data = 100.0
    forward = {event.name: event.formula for event in steps(root).forward}
    assert forward["a"] == "a = 100.0"
    assert forward["e"] == "e = a·b = -6.0 (as recorded: data was changed since)"
    assert forward["d"] == "d = e + c = -6.0 + 10.0 = 4.0"
    edges = {edge.parent.label: edge for event in steps(root).backward for edge in event.edges}
    assert edges["b"].partial == "∂e/∂b = 2.0"
    assert edges["a"].formula == "∂L/∂a += ∂L/∂e · ∂e/∂a = (-2.0) · (-3.0) = 6.0"
    x = Value(2.0)
    y = x.log()
    x.data = -1.0
    assert "as recorded" in str(steps(y))
    assert_replays(y)


def test_a_made_up_row_has_its_steps(made_up: Callable[..., Op]) -> None:
    twice = made_up("twice", lambda x: 2 * x, lambda x, out: 2.0, text="@x twice")
    odd = made_up("odd", lambda x: x, lambda x, out: math.fsum([1.0]) if x > 0 else 0.0)
    x = Value(3.0, label="x")
    y = twice(x)
    z = odd(y)
    y.label, z.label = "y", "z"
    assert [event.formula for event in steps(z).forward[1:]] == [
        "y = x twice = 3.0 twice = 6.0",
        "z = odd(y) = odd(6.0) = 6.0",
    ]
    assert steps(z).backward[0].edges[0].partial == "∂z/∂y = 1.0"
    assert_replays(z)


def test_the_text_has_a_line_for_each_formula() -> None:
    root, _ = lecture()
    lines = str(steps(root)).splitlines()
    assert lines[0] == "forward"
    assert lines[3] == " 3  e = a·b = 2.0 · (-3.0) = -6.0"
    assert lines[8] == "backward"
    assert repr(steps(root)[2]) == "e = a·b = 2.0 · (-3.0) = -6.0"
    edge = steps(root).backward[0].edges[0]
    assert repr(edge) == "∂L/∂d += ∂L/∂L · ∂L/∂d = 1.0 · (-2.0) = -2.0"
    assert isinstance(edge, Transfer)


def test_a_graph_too_long_for_a_page_is_refused_with_the_number_of_its_steps() -> None:
    y = Value(1.0)
    for _ in range(MOST_STEPS // 2):
        y = y + 1.0
    with pytest.raises(
        InputError, match=r"at most 20,000 steps, this graph has 20,002.*steps\(root\)"
    ):
        player(y)
