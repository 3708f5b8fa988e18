"""What `help` says of an operation, and whether its example is true."""

from __future__ import annotations

import doctest
import pydoc
import traceback

import pytest

import micrograd_like
from micrograd_like import Op, ops, tanh
from micrograd_like.views.manual import manual

PUBLIC = [op for name, op in vars(micrograd_like).items() if isinstance(op, Op)]


@pytest.mark.parametrize("op", PUBLIC, ids=lambda op: op.name)
def test_every_public_operation_says_what_it_is_with_an_example_that_holds(op: Op) -> None:
    text = manual(op)
    heading, about, *_ = text.split("\n\n")
    assert heading.split("(")[0] in dir(micrograd_like)
    assert "∂/∂" in text
    assert len(about) > 3
    assert "∂/∂" not in about
    assert "base" not in about or "base 10" in about or "base 2" in about or "base e" in about
    assert f"It is defined {op.domain}." in text
    assert op.kink in text
    names = {name: getattr(micrograd_like, name) for name in dir(micrograd_like)}
    test = doctest.DocTestParser().get_doctest(text, names, op.name, None, None)
    assert test.examples
    failed, _ = doctest.DocTestRunner(verbose=False).run(test)
    assert failed == 0


def test_bounds_in_the_example_are_in_order() -> None:
    assert ">>> clip(0.5, 1.5, 2.0)\n    1.5" in manual(ops.clip)


def test_help_shows_it() -> None:
    shown = pydoc.plain(pydoc.render_doc(tanh))
    assert "hyperbolic tangent" in shown
    assert "∂/∂x = 1 - tanh(x)²" in shown
    assert "One row of the table" in (Op.__doc__ or "")


def test_an_operation_of_ones_own_has_help_too(made_up: type[Op]) -> None:
    cube = made_up("cube", lambda x: x**3, lambda x, out: 3 * x**2, doc="The third power.")
    assert "cube(x)\n\nThe third power.\n\n    ∂/∂x = 3·x²" in str(cube.__doc__)
    odd = made_up("odd", lambda x: x, lambda x, out: float(x))
    assert "odd(x)" in str(odd.__doc__)


def test_completion_shows_public_names_and_nothing_else() -> None:
    shown = dir(micrograd_like)
    assert {"Value", "tanh", "nn", "draw", "play", "compile", "datasets"} <= {*shown}
    assert not [name for name in shown if name.startswith("_") and name != "__version__"]
    for name in shown:
        assert hasattr(micrograd_like, name)
    assert {"TYPE_CHECKING", "words", "found_later"}.isdisjoint(shown)


@pytest.mark.parametrize(
    ("module", "some"),
    [
        ("nn", {"Layer", "MLP", "Module", "Neuron"}),
        ("losses", {"mse", "cross_entropy", "binary_cross_entropy"}),
        ("optim", {"SGD", "Adam", "AdamW"}),
        ("training", {"fit", "checkpoint", "Predictor"}),
        ("engine", {"Value", "topological_order"}),
        ("ops", {"Op", "TABLE", "find", "tanh", "power", "where"}),
        ("errors", {"MicrogradError", "DomainError", "MicrogradWarning", "AnomalyError"}),
    ],
)
def test_modules_show_what_is_theirs_and_not_what_they_import(module: str, some: set[str]) -> None:
    found = getattr(micrograd_like, module)
    shown = {*dir(found)}
    assert some <= shown
    assert all(hasattr(found, name) for name in shown)
    assert {"Any", "Sequence", "InputError", "math", "ops", "annotations"} & shown <= (
        {"InputError"} if module == "errors" else set()
    )
    assert not [name for name in shown if name.startswith("_")]


def test_a_wrong_name_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(AttributeError, match=r"'tahn'; did you mean tanh\?$") as caught:
        _ = micrograd_like.tahn
    assert "".join(traceback.format_exception(caught.value)).count("id you mean") == 1
    with pytest.raises(AttributeError, match=r"'Predicter'; did you mean Predictor\?$"):
        _ = micrograd_like.training.Predicter
    with pytest.raises(ValueError, match=r"no operation 'tahn'; did you mean tanh\?"):
        ops.find("tahn")
    with pytest.raises(ValueError, match=r"no operation 'qqqq'$"):
        ops.find("qqqq")
