"""The chain rule along paths: what is added up where, which adjoints have names, what it costs."""

from __future__ import annotations

from reference import labelled

from micrograd_like import Value
from micrograd_like.views.derivation import derive


def chain_of_diamonds(n: int) -> tuple[Value, Value]:
    x = v = Value(0.7, "x")
    for _ in range(n):
        v = v.sin() * v.cos()
    return v, x


def test_on_a_chain_of_diamonds_paths_double_and_shared_multiplications_do_not() -> None:
    counts = [derive(*chain_of_diamonds(n)).counts for n in range(1, 12)]
    assert [c["paths"] for c in counts] == [2**n for n in range(1, 12)]
    assert [c["path_by_path"] for c in counts] == [2**n * (2 * n - 1) for n in range(1, 12)]
    assert [c["unshared"] for c in counts] == [6 * 2**n // 2 * 1 - 4 for n in range(1, 12)]
    assert [c["shared"] for c in counts] == [4 * n - 2 for n in range(1, 12)]


def test_two_to_the_thousandth_paths_are_counted_exactly() -> None:
    counts = derive(*chain_of_diamonds(1000)).counts
    assert counts["paths"] == 2**1000
    assert counts["path_by_path"] == 2**1000 * 1999
    assert counts["shared"] == 3998


def test_additions_and_signs_multiply_nothing() -> None:
    x, y = Value(2.0, "x"), Value(3.0, "y")
    assert derive(-(x + y) - 4, [x, y]).counts == {
        "paths": 2,
        "path_by_path": 0,
        "unshared": 0,
        "shared": 0,
    }


def test_where_ways_meet_again_what_lies_between_is_a_factor() -> None:
    assert derive(*chain_of_diamonds(2)).text.splitlines()[-1] == (
        "∂v6/∂x = (v5 · cos(v3) - v4 · sin(v3)) · (v2 · cos(x) - v1 · sin(x))"
    )


def test_the_adjoint_of_z_has_its_index_and_others_with_that_index_their_name() -> None:
    w, v = Value(0.5, "w"), Value(0.25, "v")
    z = labelled(w * v, "z1")
    a = labelled(z.tanh() * w, "a1")
    text = derive(labelled(a * a * w, "y"), [w, v]).text
    assert "δ1 = " in text
    assert "δ_a1 = " in text
    taken = labelled(Value(1.0) * w * v, "δ1")
    assert "δ1′ = " in derive(labelled(z.sin() * taken, "y"), [w, v]).text


def test_nodes_without_labels_are_numbered_and_inlined_where_they_only_pass_on() -> None:
    a, b = Value(2.0, "a"), Value(3.0, "b")
    assert derive((a * b + a).sin(), a).text.splitlines() == [
        "v2 = a · b + a",
        "v3 = sin(v2)",
        "∂v3/∂a = ∂v3/∂v2 · ∂v2/∂a",
        "∂v3/∂a = cos(v2) · (b + 1)",
    ]
    assert derive((a * b + a).tanh(), a).text.splitlines() == [
        "v3 = tanh(a · b + a)",
        "∂v3/∂a = (1 - v3²) · (b + 1)",
    ]


def test_a_partial_beside_other_ways_to_the_same_node_is_not_called_its_derivative() -> None:
    x = Value(2.0, "x")
    v = labelled(x.exp(), "v")
    assert derive(labelled(v * x, "y"), x).text.splitlines()[2:] == [
        "∂y/∂x = ∂y/∂v · ∂v/∂x + v",
        "∂y/∂x = x · v + v",
    ]


def test_a_line_that_only_changes_the_order_is_left_out() -> None:
    p = Value(0.3, "p")
    q = labelled(1 - p, "q")
    assert derive(labelled(-(p.log() * 2 + q.log()), "L"), p).text.splitlines() == [
        "q = 1 - p",
        "L = -(2 · log(p) + log(q))",
        "∂L/∂p = -2 / p + ∂L/∂q · ∂q/∂p",
        "∂L/∂p = 1 / q - 2 / p",
    ]
