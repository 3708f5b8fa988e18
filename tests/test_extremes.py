"""Things of every kind in every place, graphs of a million nodes, floats at their ends.

`TABLE` says what becomes of each kind of thing in each place that takes one; the tests read it.
With MICROGRAD_LIKE_FULL=1 in the environment graphs have a million nodes, elsewhere fewer.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import math
import os
import pickle
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import pytest
from reference import evaluated, same

from micrograd_like import (
    Value,
    affine,
    compile,
    derive,
    draw,
    explain,
    grad,
    gradcheck,
    hessian,
    hypot,
    jacobian,
    jvp,
    logsumexp,
    losses,
    nn,
    ops,
    optim,
    player,
    steps,
    tanh,
    topological_order,
    training,
    value_and_grad,
)
from micrograd_like.errors import DomainError, InputError, MicrogradError, OperandError, StateError

np = pytest.importorskip("numpy")

INF, NAN = math.inf, math.nan

# --- the table ------------------------------------------------------------------------------------


class Parameter(Value):
    """A Value of the user's own kind."""


class Foreign:
    """What another library calls a Value."""

    def __init__(self, data: float) -> None:
        self.data, self.grad = data, 0.0


class Floatable:
    """What float() takes, but is no number."""

    def __float__(self) -> float:
        return 2.0


THINGS: dict[str, list[Any]] = {
    "float": [2.0],
    "-0.0": [-0.0],
    "subnormal": [5e-324],
    "inf": [INF, -INF, np.float32(INF), np.longdouble("1e4000")],
    "nan": [NAN, np.float16(NAN)],
    "int": [2],
    "300 digits": [10**299],
    "1000 digits": [10**999, -(10**999)],
    "bool": [True, np.True_],
    "Fraction": [Fraction(5, 2)],
    "huge Fraction": [Fraction(10**999)],
    "Decimal": [Decimal("2.5")],
    "Decimal inf": [Decimal("1e999"), Decimal("nan")],
    "Decimal sNaN": [Decimal("sNaN")],
    "numpy int": [np.dtype(code).type(2) for code in np.typecodes["AllInteger"]],
    "numpy float": [np.dtype(code).type(2) for code in np.typecodes["Float"]],
    "numpy complex": [np.dtype(code).type(2) for code in np.typecodes["Complex"]],
    "numpy time": [np.timedelta64(2, "s"), np.datetime64("2020-01-01")],
    "numpy ns": [np.timedelta64(2, "ns")],
    "numpy str": [np.str_("2")],
    "numpy bytes": [np.bytes_(b"2")],
    "0-d array": [np.array(2.0), np.array(2)],
    "array": [np.array([2.0, 2.0]), np.array([[2.0]])],
    "str": ["2", "nan"],
    "bytes": [b"2"],
    "None": [None],
    "complex": [2j],
    "list": [[2.0, 2.0], (2.0, 2.0)],
    "Value": [Value(2.0), Parameter(2.0)],
    "other": [Foreign(2.0), Floatable(), object()],
}

# A row for each kind of thing, a column for each group of places (PLACES) that treat all things
# alike. "ok": what the float that it stands for would give there, be it a result or an error of
# the values (labels that are out of range, a loss that overflows). "-": not tried, because
# Python refuses by itself, memory would be filled, or it is a different thing there. Other words
# are in REFUSALS.
TABLE = """
               number operand program lines rate  X      y      state  label width node
float          ok     ok      ok      ok    ok    ok     ok     ok     ok    width Value
-0.0           ok     ok      ok      ok    ok    ok     ok     ok     ok    width Value
subnormal      ok     ok      ok      ok    ok    ok     ok     ok     ok    width Value
inf            ok     ok      ok      ok    range finite finite finite ok    width Value
nan            ok     ok      ok      ok    range finite finite finite ok    width Value
int            ok     ok      ok      ok    ok    ok     ok     ok     ok    ok    Value
300 digits     ok     ok      ok      ok    ok    ok     ok     ok     ok    -     Value
1000 digits    large  large   large   large large large  large  finite large -     Value
bool           ok     ok      ok      ok    ok    ok     ok     state  ok    width Value
Fraction       ok     ok      ok      ok    ok    ok     ok     ok     ok    width Value
huge Fraction  large  -       large   large large large  large  finite large width Value
Decimal        ok     ok      ok      ok    ok    ok     ok     state  ok    width Value
Decimal inf    ok     ok      ok      ok    range finite finite state  ok    width Value
Decimal sNaN   type   type    type    type  type  type   type   state  type  width Value
numpy int      ok     ok      ok      ok    ok    ok     ok     ok     ok    ok    Value
numpy float    ok     ok      ok      ok    ok    ok     ok     ok     ok    width Value
numpy complex  real   real    program real  real  real   real   state  real  width Value
numpy time     times  times   program times times times  times  state  times width Value
numpy ns       times  times   program times times times  times  state  times width Value
numpy str      text   text    program text  text  text   text   state  text  width Value
numpy bytes    array  array   program array array array  type   state  type  width Value
0-d array      ok     ok      ok      ok    ok    ok     ok     state  ok    width Value
array          array  -       shape   array array array  -      state  count width Value
str            text   text    program text  text  text   text   state  text  width Value
bytes          type   type    program type  type  type   type   state  type  width Value
None           type   type    type    type  type  type   type   state  type  width Value
complex        real   real    program real  real  real   real   state  real  width Value
list           type   type    shape   shape type  type   -      state  count width Value
Value          data   ok      data    data  data  data   ok     state  data  width ok
other          type   type    type    type  type  type   type   state  type  width Value
"""

REFUSALS: dict[str, tuple[type[MicrogradError], str]] = {
    "large": (InputError, "is too large for a float"),
    "type": (OperandError, "use a float, an int or a Value"),
    "text": (OperandError, "convert it with float() first"),
    "real": (OperandError, "the library computes with real numbers"),
    "times": (OperandError, "times are no numbers"),
    "array": (OperandError, "use one Value an element"),
    "data": (OperandError, "use its .data"),
    "program": (OperandError, "a program takes numbers, not"),
    "shape": (InputError, "in the order of its inputs; got shape"),
    "range": (InputError, "is at least 0"),
    "finite": (ValueError, "finite number"),  # type: ignore[dict-item]
    "state": (StateError, "needs a finite number"),
    "count": (InputError, "targets"),
    "width": (InputError, "at least 1, got"),
    "Value": (OperandError, "Value"),
}


def assigned(thing: Any) -> float:
    x = Value(3.0)
    x.data = thing
    return x.data


def swept(thing: Any) -> float:
    x = Value(3.0)
    (x * 1.0).backward(thing)
    return x.grad


def added_to(thing: Any) -> float:
    x = Value(3.0)
    x.grad = thing
    (x * 1.0).backward()
    assert isinstance(x.grad, float)  # NumPy's float64 is one, its float32 is not
    return float(x.grad)


def program(backend: Any, batch: bool = False) -> Callable[[Any], Any]:
    x = Value(3.0)
    run = compile(x.tanh(), [x], [x], backend=backend)
    return lambda thing: run([[thing]])[0][0] if batch else run([thing])[0]


def fitted(**data: Any) -> float:
    model = nn.MLP(1, [1], seed=0)
    data = {"X": [[1.0], [0.5]], "y": [1.0, 0.5], "epochs": 1, "loss": "mse", **data}
    return training.fit(model, **data).loss[-1]


def loaded(thing: Any) -> float:
    model = nn.MLP(1, [1], seed=0)
    model.load_state_dict(dict.fromkeys(model.state_dict(), thing))
    return model.parameters()[0].data


X = Value(3.0)
MODEL = nn.MLP(2, [3, 1], seed=0)

NATIVE: dict[str, Callable[[Any], Any]] = {}
if find_spec("numba"):
    NATIVE = {
        "compile(..., 'numba')([_])": program("numba"),
        "compile(..., 'numba')([[_]])": program("numba", batch=True),
    }

PLACES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "number": {
        "Value(_)": Value,
        "x.data = _": assigned,
        "backward(_)": swept,
        "x.grad = _; backward()": added_to,
        "steps(y, _)": lambda _: steps(X.exp(), _)[-1].after,
    },
    "operand": {
        "x + _": lambda _: X + _,
        "_ + x": lambda _: _ + X,
        "x - _": lambda _: X - _,
        "_ - x": lambda _: _ - X,
        "x * _": lambda _: X * _,
        "_ * x": lambda _: _ * X,
        "x / _": lambda _: X / _,
        "_ / x": lambda _: _ / X,
        "x ** _": lambda _: X**_,
        "_ ** x": lambda _: _**X,
        "x < _": lambda _: _ > X,
        "_ < x": lambda _: _ < X,
        "x >= _": lambda _: _ <= X,
        "tanh(_)": tanh,
        "hypot(x, _)": lambda _: hypot(X, _),
        "logsumexp(_, x)": lambda _: logsumexp(_, X),
        "x.leaky_relu(_)": lambda _: (-X).leaky_relu(_),
        "ops.where(_, x, 1)": lambda _: ops.where(_, X, 1.0),
        "affine([_], [x], x)": lambda _: affine([_], [X], X),
        "affine([x], [_], x)": lambda _: affine([X], [_], X),
        "affine([x], [x], _)": lambda _: affine([X], [X], _),
        "MLP(2, ...)([1, _])": lambda _: MODEL([1.0, _]),
    },
    "program": {
        "compile(..., 'numpy')([_])": program("numpy"),
        "compile(..., 'numpy')([[_]])": program("numpy", batch=True),
        **NATIVE,
    },
    "lines": {
        "compile(..., 'python')([_])": program("python"),
    },
    "rate": {
        "SGD(lr=_)": lambda _: optim.SGD([X], lr=_).lr,
        "SGD(momentum=_)": lambda _: optim.SGD([X], momentum=_).momentum,
        "Adam(eps=_)": lambda _: optim.Adam([X], eps=_).eps,
        "Adam(weight_decay=_)": lambda _: optim.Adam([X], weight_decay=_).weight_decay,
    },
    "X": {"fit(model, [[_], ...], y)": lambda _: fitted(X=[[_], [0.5]])},
    "y": {"fit(model, X, [_, ...])": lambda _: fitted(y=[_, 0.5])},
    "state": {"load_state_dict({name: _})": loaded},
    "label": {"cross_entropy([x, x, x], _)": lambda _: losses.cross_entropy([X, X + 1, X], _)},
    "width": {
        "MLP(_, [1])": lambda _: nn.MLP(_, [1], seed=0).widths[0],
        "MLP(1, [_])": lambda _: nn.MLP(1, [_], seed=0).widths[1],
        "fit(epochs=_)": lambda _: fitted(epochs=_),
        "draw(x, max_nodes=_)": lambda _: len(draw(X * X, max_nodes=_).source),
    },
    "node": {
        "topological_order(_)": topological_order,
        "grad(_, x)": lambda _: grad(_, X),
        "grad(x, _)": lambda _: grad(X, _),
        "grad(x, [_])": lambda _: grad(X, [_]),
        "jacobian(_, x)": lambda _: jacobian(_, X),
        "hessian(x, _)": lambda _: hessian(X, _),
        "draw(_)": draw,
        "draw(x, highlight=_)": lambda _: draw(X, highlight=[_]),
        "steps(_)": steps,
        "player(_)": player,
        "derive(_, x)": lambda _: derive(_, X),
        "derive(x, _)": lambda _: derive(X, _),
        "explain(_, x)": lambda _: explain(_, X),
        "compile(_, [x])": lambda _: compile(_, [X]),
        "compile(x, _)": lambda _: compile(X * 2.0, _),
        "compile(x, [x], [_])": lambda _: compile(X * 2.0, [X], [_]),
        "SGD([_])": lambda _: optim.SGD([_]),
    },
}


def cells() -> list[tuple[str, str, str]]:
    """The table as (thing, group of places, outcome)."""
    head, *rows = (line for line in TABLE.splitlines() if line)
    groups = head.split()
    result = []
    for row in rows:
        thing, outcomes = row[:15].strip(), row[15:].split()
        result += [(thing, *cell) for cell in zip(groups, outcomes, strict=True)]
    return result


def outcome(place: Callable[[Any], Any], thing: Any) -> Any:
    """The number that comes of it, or the class of the library's error."""
    try:
        result = place(thing)
    except MicrogradError as error:
        return type(error)
    return result.data if isinstance(result, Value) else result


# Where numbers are taken in their order.
LISTS: dict[str, Callable[[Any], Any]] = {
    "MLP(2, ...)(_)": lambda _: MODEL(_),
    "Neuron(2)(_)": lambda _: nn.Neuron(2, seed=0)(_),
    "model.predict(_)": lambda _: MODEL.predict(_),
    "model.predict([_])": lambda _: MODEL.predict([_]),
    "affine(_, [x, x], x)": lambda _: affine(_, [X, X], X),
    "affine([x, x], _, x)": lambda _: affine([X, X], _, X),
    "mse(_, [x, x])": lambda _: losses.mse(_, [X, X]),
    "cross_entropy([x, x], _)": lambda _: losses.cross_entropy([X, X], _),
    "softmax(_)": lambda _: losses.softmax(_),
    "jacobian(f, _)": lambda _: jacobian(lambda v: [v[0] * v[1]], _),
    "hessian(f, _)": lambda _: hessian(lambda v: v[0] * v[1], _),
    "jvp(f, [x, x], _)": lambda _: jvp(lambda v: v[0] * v[1], [1.0, 2.0], _),
    "value_and_grad(f)(_)": lambda _: value_and_grad(lambda v: v[0] * v[1])(_),
    "gradcheck(f, _)": lambda _: gradcheck(lambda x, y: x * y, _),
    "fit(model, _, y)": lambda _: fitted(X=_),
    "fit(model, X, _)": lambda _: fitted(y=_),
    "compile(..., 'python')(_)": lambda _: compile(X * 2.0, [X], backend="python")(_),
    "compile(..., 'numpy')(_)": lambda _: compile(X * 2.0, [X])(_),
}


@pytest.mark.parametrize("place", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize(
    "things", [{0.0: 1.0, 1.0: 2.0}, {0.0, 1.0}, frozenset([0.0, 1.0])], ids=repr
)
def test_a_dict_or_a_set_is_no_list_of_numbers(place: Callable[[Any], Any], things: Any) -> None:
    """Of the one the keys would count, and the other has no order."""
    with pytest.raises(OperandError):
        place(things)


def test_the_table_has_every_thing_in_every_place() -> None:
    assert [(thing, group) for thing, group, _ in cells()] == [
        (thing, group) for thing in THINGS for group in PLACES
    ]
    assert {word for _, _, word in cells()} == {"ok", "-", *REFUSALS}


@pytest.mark.parametrize(("thing", "group", "expected"), cells())
@pytest.mark.filterwarnings("error")
def test_what_becomes_of_a_thing_in_a_place(thing: str, group: str, expected: str) -> None:
    for x in THINGS[thing]:
        for name, place in PLACES[group].items():
            if expected == "-":
                continue
            if expected != "ok":
                kind, message = REFUSALS[expected]
                with pytest.raises(kind, match=re.escape(message)) as caught:
                    place(x)
                assert isinstance(caught.value, MicrogradError), name
            elif group == "node":
                place(x)
            else:
                plain = 2 if group == "width" else x.data if isinstance(x, Value) else float(x)
                got, want = outcome(place, x), outcome(place, plain)
                assert got is want or same(got, want), name
                assert type(got) is type(want), name


def test_the_table_is_read_to_the_last_cell() -> None:
    """A wrong cell is noticed: each outcome in the place of each other one that is not "-"."""
    words = ["ok", *REFUSALS]
    for thing, group, expected in [("float", "number", "ok"), ("str", "X", "text")]:
        for wrong in words:
            if wrong == expected:
                continue
            with pytest.raises((AssertionError, pytest.fail.Exception, MicrogradError, TypeError)):
                test_what_becomes_of_a_thing_in_a_place(thing, group, wrong)


@pytest.mark.parametrize("label", [None, 3, 2.5, True, b"x", ("a",), Value(1.0)], ids=repr)
def test_a_label_that_is_no_text_is_refused_at_once(label: Any) -> None:
    x = Value(2.0, "x")
    with pytest.raises(OperandError, match="a label is a text, not"):
        x.label = label
    assert x.label == "x"


@pytest.mark.parametrize("label", ["", "\0", "a\nb", "\ud800", "w" * 10_000, '<b>&"', "∂"])
def test_any_str_is_a_label(label: str) -> None:
    x = Value(2.0, label)
    y = (x * x).tanh()
    y.label = label
    for look in (repr, draw, player, lambda y: str(steps(y)), lambda y: derive(y, x).latex):
        assert look(y)
    assert compile(y, [x])([2.0]) == y.data


# --- graphs of a million nodes --------------------------------------------------------------------

FULL = os.environ.get("MICROGRAD_LIKE_FULL") == "1"
MANY = 1_000_000 if FULL else 2_000  # Python's recursion limit is 1,000


def deep() -> tuple[Value, Value, float]:
    """A chain; like the other shapes, with the first of its leaves and the derivative by it."""
    x = Value(0.5, "x")
    y = x
    for _ in range(MANY):
        y = y + x
    return x, y, MANY + 1.0


def wide() -> tuple[Value, Value, float]:
    xs = [Value(0.5) for _ in range(MANY)]
    return xs[0], affine(xs, xs, 1.0), 1.0


def shared() -> tuple[Value, Value, float]:
    x = Value(0.5, "x")
    return x, affine([1.0] * MANY, [x * 2.0 for _ in range(MANY)]), 2.0 * MANY


def repeated() -> tuple[Value, Value, float]:
    x = Value(0.5, "x")
    return x, affine([x] * MANY, [x] * MANY, x), MANY + 1.0


def leaves_of(y: Value) -> list[Value]:
    return [node for node in topological_order(y) if node.op is None]


def by_backward(x: Value, y: Value) -> float:
    y.backward()
    return x.grad


def by_copy(twin: Value) -> float:
    return grad(twin, topological_order(twin)[0])


def by_program(x: Value, y: Value, backend: Any = "numpy") -> float:
    inputs = leaves_of(y)
    _, gradient = compile(y, inputs, [x], backend=backend)([v.data for v in inputs])
    return float(gradient[0])


def by_derivation(x: Value, y: Value) -> Any:
    derivation = derive(y, x)
    assert len(derivation.text) < 50_000
    assert len(derivation.latex) < 50_000
    assert derivation.counts["paths"] >= 1
    found = evaluated(derivation, [x])
    return grad(y, x) if found is None else found[0]


def by_steps(x: Value, y: Value) -> float:
    result = steps(y)
    assert len(result) == 2 * len(topological_order(y))
    assert len(repr(result)) < 50_000
    return next(event.after for event in result.backward if event.node is x)


def by_explanation(x: Value, y: Value) -> float:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        explain(x, y)
    assert len(text.getvalue()) < 5_000
    return float(text.getvalue().rpartition("=")[2])


# What walks through graphs, each of them to a derivative.
WALKS: dict[str, Callable[[Value, Value], float]] = {
    "backward": by_backward,
    "grad": lambda x, y: grad(y, x),
    "grad, create_graph": lambda x, y: grad(y, x, create_graph=True).data,
    "jacobian": lambda x, y: jacobian([y], [x])[0][0],
    "jvp": lambda x, y: jvp(y, x, 1.0),
    "deepcopy": lambda x, y: by_copy(copy.deepcopy(y)),
    "pickle": lambda x, y: by_copy(pickle.loads(pickle.dumps(y))),
    "steps": by_steps,
    "derive": by_derivation,
    "explain": by_explanation,
    "compile, numpy": by_program,
    "compile, python": lambda x, y: by_program(x, y, "python"),
}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("shape", [deep, wide, shared, repeated])
def test_a_graph_of_many_nodes_is_walked_through(
    shape: Callable[[], tuple[Value, Value, float]], walk: str
) -> None:
    x, y, slope = shape()
    assert WALKS[walk](x, y) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "curvature"), [(deep, 0.0), (wide, 2.0), (shared, 0.0), (repeated, 2.0 * MANY)]
)
def test_a_graph_of_many_nodes_has_second_derivatives(
    shape: Callable[[], tuple[Value, Value, float]], curvature: float
) -> None:
    x, y, _ = shape()
    assert hessian(y, [x]) == [[curvature]]


@pytest.mark.parametrize("shape", [deep, wide, shared, repeated])
def test_a_picture_of_many_nodes_or_edges_is_no_larger_than_one_of_hundreds(
    shape: Callable[[], tuple[Value, Value, float]],
) -> None:
    x, y, _ = shape()
    for collapse in ("auto", "none"):
        drawing = draw(y, collapse=collapse)
        assert len(drawing.source) < 300_000
        assert drawing.box(x)
    assert len(repr(y)) < 100


def test_parallel_edges_are_one_where_there_are_many() -> None:
    x, y = Value(0.5, "x"), Value(2.0, "y")
    few, many = affine([x] * 3, [x] * 3), affine([x] * 40 + [y], [x] * 40 + [y])
    assert draw(few).source.count('"node-0" -> ') == 6
    source = draw(many).source
    assert source.count('"node-0" -> ') == 1
    assert source.count('"node-1" -> ') == 2


def test_a_page_refuses_more_steps_than_browsers_show() -> None:
    y = x = Value(0.5)
    for _ in range(10_000):
        y = y + x
    with pytest.raises(
        InputError, match="a page shows at most 20,000 steps, this graph has 20,002"
    ):
        player(y)


# --- the ends of the floats -----------------------------------------------------------------------

ENDS = [0.0, -0.0, 5e-324, -5e-324, 1.0, -1.0, 2.5, 1.7976931348623157e308, INF, -INF, NAN]
ROWS = sorted({op.name for op in ops.TABLE.values() if op.name in ops.BUILTIN} - {"affine"})


def applied(name: str, xs: list[Value]) -> Value:
    result: Value = ops.TABLE[name](*xs)
    return result


def graph_of(name: str) -> tuple[list[Value], Value]:
    """Some arguments in the row's domain, and the row applied to them."""
    for x in (0.5, 1.5):
        xs = [Value(x, label) for label in ("p", "q", "r")[: ops.TABLE[name].arity or 2]]
        with contextlib.suppress(DomainError):
            return xs, applied(name, xs)
    raise AssertionError(name)


def is_same(got: float, want: float) -> bool:
    """Equal to rounding, and NaN, infinite or neither as `want` is."""
    if not (math.isfinite(got) and math.isfinite(want)):
        return same(got, want)
    return math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-320)


@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("name", ROWS)
def test_programs_have_the_engines_numbers_at_the_ends_of_the_floats(
    name: str, backend: Any
) -> None:
    """(With Numba: tests/test_loops.py.)"""
    inputs, root = graph_of(name)
    program = compile(root, inputs, inputs, backend=backend)
    for point in itertools.product(ENDS, repeat=len(inputs)):
        xs = [Value(x) for x in point]
        try:
            y = applied(name, xs)
        except DomainError as error:
            with pytest.raises(DomainError, match=error.op):
                program(list(point), check=True)
            continue
        value, gradient = program(list(point))
        want = [y.data, *grad(y, xs)]
        assert all(map(is_same, [value, *gradient], want)), (point, value, gradient, want)


@pytest.mark.parametrize("name", ROWS)
def test_gradients_at_the_ends_of_the_floats_are_those_of_the_recorded_derivatives(
    name: str,
) -> None:
    for point in itertools.product(ENDS, repeat=len(graph_of(name)[0])):
        xs = [Value(x) for x in point]
        with contextlib.suppress(DomainError):
            y = applied(name, xs)
            graphs = grad(y, xs, create_graph=True)
            assert all(map(same, [g.data for g in graphs], grad(y, xs))), point
            recorded = dict.fromkeys(xs, 0.0) | dict(y.edges)
            assert all(map(same, recorded.values(), (grad(y, x) for x in xs))), point
