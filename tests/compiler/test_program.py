"""compile: programs give what the eager engine gives, on every backend, and can be read."""

from __future__ import annotations

import copy
import math
import pickle
import random
import subprocess
import sys
import warnings
from fractions import Fraction
from itertools import product as grid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES, random_model, roots_of
from optional import np
from samples import (
    BACKENDS,
    BROKEN_ONCE,
    PROGRAMS,
    SPECIAL,
    agrees,
    convolution,
    flat,
    largest,
    matrix,
    mlp_loss,
    random_graph,
    recurrent_cell,
    same,
    vector,
)

from micrograd_like import (
    Op,
    Value,
    affine,
    compile,
    compile_step,
    grad,
    log,
    losses,
    no_grad,
    ops,
    tanh,
)
from micrograd_like.errors import DomainError, InputError, OperandError


@settings(max_examples=CASES or 40)
@given(seed=st.integers(0, 10**9))
def test_any_model_of_vectors_and_matrices_compiles_to_what_the_engine_computes(seed):
    model, loss, parameters, X, y = random_model(seed)
    _, roots = roots_of(model, loss, X, y)
    agrees(losses.mean(roots), parameters, "numpy")
    rng = random.Random(seed)
    some = rng.sample(parameters, rng.randint(1, len(parameters)))
    program = compile(roots, parameters, some)
    for p in parameters:
        p.data = rng.uniform(-1.5, 1.5)
    _, roots = roots_of(model, loss, X, y)
    values, jacobian = program([p.data for p in parameters])
    expected = [grad(root, some) for root in roots]
    assert same(values, [root.data for root in roots]), program.source
    assert same(jacobian, expected, largest(x for row in expected for x in row)), program.source


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=150)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 60), leaves=st.integers(1, 6))
def test_any_graph_compiles_to_what_the_engine_computes(backend, seed, size, leaves):
    xs, root = random_graph(seed, size, leaves)
    agrees(root, xs, backend)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 40), leaves=st.integers(1, 5))
def test_a_batch_gives_what_its_rows_give_and_backends_agree_anywhere(seed, size, leaves):
    xs, root = random_graph(seed, size, leaves)
    arrays = compile(root, xs, xs)
    straight = compile(root, xs, xs, backend="python")
    rng = np.random.default_rng(seed)
    rows = np.array([x.data for x in xs]) + 0.1 * rng.standard_normal((3, leaves))
    values, gradients = arrays(rows)
    assert values.shape == (3,)
    assert gradients.shape == (3, leaves)
    for row, value, gradient in zip(rows, values, gradients, strict=True):
        expected, slopes = straight(row)
        assert same(value, expected)
        assert same(gradient, slopes, largest(slopes))
        single, single_slopes = arrays(row)
        assert same(single, expected)
        assert same(single_slopes, slopes, largest(slopes))


@settings(max_examples=25)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    fused=st.booleans(),
    activation=st.sampled_from(["tanh", "relu", "sigmoid", "gelu", "elu", "linear"]),
    examples=st.integers(1, 6),
)
def test_networks_of_any_depth_and_width_compile(widths, fused, activation, examples):
    model, loss = mlp_loss(widths, fused, activation, examples)
    for backend in BACKENDS:
        agrees(loss, model.parameters(), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_row_of_the_table_compiles(backend):
    points = {"log": 0.7, "sqrt": 0.6, "acosh": 1.8, "log1p": 0.3, "asin": 0.4, "acos": 0.3,
              "atanh": 0.5, "ieee_log": 0.7, "pow": 1.3, "ieee_pow": 1.4, "where": 1.0}  # fmt: skip
    for name in ops.BUILTIN:
        op = ops.TABLE[name]
        count = op.arity if op.arity is not None else 5
        xs = [Value(points.get(name, 0.4) + 0.1 * i) for i in range(count)]
        if name == "where":
            xs[0].data = 1.0
        agrees(op(*xs), xs, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_all_kinds_compile(name, backend):
    inputs, root = PROGRAMS[name]()
    agrees(root, inputs, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_and_odd_graphs_compile(backend):
    x, y = Value(2.0, "x"), Value(3.0, "y")
    assert compile(x, [x], [x], backend=backend)([5.0])[0] == 5.0
    assert list(compile(x, [x], [x], backend=backend)([5.0])[1]) == [1.0]
    assert compile(Value(7.0), [x], backend=backend)([1.0]) == 7.0
    value, gradient = compile(x * 2, [x, y], [y, x], backend=backend)([5.0, 1.0])
    assert (value, list(gradient)) == (10.0, [0.0, 2.0])
    assert compile(x * y + 1, [y], backend=backend)([4.0]) == 9.0  # x is a constant
    assert compile(Value(2.0) * 3.0, [], backend=backend)([]) == 6.0
    assert list(compile([x, x + y], [x, y], backend=backend)([1.0, 2.0])) == [1.0, 3.0]
    values, jacobian = compile([x * y, x + y], [x, y], [x, y], backend=backend)([2.0, 3.0])
    assert list(values) == [6.0, 5.0]
    assert [list(row) for row in jacobian] == [[3.0, 2.0], [1.0, 1.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chain_of_20_000_operations_compiles_without_recursion(backend):
    x = Value(0.5, "x")
    y = x
    for _ in range(1_000 if backend == "python" else 20_000 // 2):
        y = (y * 1.0001).tanh() if backend == "python" else y * 1.00001 + 1e-6
    value, gradient = compile(y, [x], [x], backend=backend)([0.5])
    assert value == pytest.approx(y.data, rel=1e-9)
    assert gradient[0] == pytest.approx(grad(y, x), rel=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_users_row_compiles(backend, made_up):
    cube = made_up("cube", lambda x: x * x * x, lambda x, out: 3 * x * x)
    xs = [Value(0.5 + i, f"x[{i}]") for i in range(3)]
    agrees(sum(cube(x) * x for x in xs), xs, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "one", [1, True, np.float64(1.0) if np else 1], ids=["int", "bool", "NumPy"]
)
def test_a_users_partials_may_be_numbers_of_any_type(backend, one, made_up):
    double = made_up("double", lambda x: 2.0 * x, lambda x, out: one + one)
    total = made_up("total", lambda *xs: math.fsum(xs), lambda *xs_out: [one] * (len(xs_out) - 1))
    x, y = Value(3.0), Value(0.5)
    agrees(double(x) * y + double(double(x)) * total(x, x * y, 2.0), [x, y], backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_users_rows_may_have_any_names(backend, made_up):
    def multiple(name, k):
        return made_up(name, lambda x: k * x, lambda x, out: k)

    names = ["1x", "a b", "a_b", "tanh_", "x_", "logsumexp_rows"]
    rows = [multiple(name, float(k)) for k, name in enumerate(names)]
    x = Value(0.5, "x_")
    agrees(sum(row(x) * x for row in rows) + x.tanh(), [x], backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients_compile(backend):
    x = Value(0.7, "x")
    first = grad(x**3 * x.sin(), x, create_graph=True)
    agrees(first, [x], backend)


def test_within_no_grad_gradients_compile_to_the_same_program():
    x, w = Value(2.0, "x"), Value(0.5, "w")
    y = tanh(x * w) * x
    with no_grad():
        program = compile(y, [x, w], wrt=[x, w], backend="python")
    assert program.source == compile(y, [x, w], wrt=[x, w], backend="python").source


def test_within_no_grad_an_output_that_was_computed_there_is_refused():
    x = Value(2.0, "x")
    with no_grad():
        assert compile(x, [x])([3.0]) == 3.0
        with pytest.raises(InputError, match="within no_grad what is computed is a constant"):
            compile(x * x, [x])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_go_the_way_they_go_in_the_engine(bad):
    model, loss = mlp_loss([2, 3, 1], True, "relu", 2)
    parameters = model.parameters()
    for i in range(len(parameters)):
        values = [p.data for p in parameters]
        values[i] = bad
        expected = compile(loss, parameters, parameters, backend="python")(values)
        value, gradient = compile(loss, parameters, parameters)(values)
        assert same(value, expected[0])
        assert same(gradient, expected[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("values", [[math.inf, 1.0, 2.0], [-math.inf] * 3, [math.nan, 1.0, 2.0]])
def test_logsumexp_of_infinities_is_that_of_the_row(values, backend):
    xs = [Value(1.0, f"x[{i}]") for i in range(3)]
    program = compile(ops.logsumexp(*xs), xs, backend=backend)
    assert same(program(values), ops.logsumexp(*values))


def test_a_users_row_off_its_domain_is_nan(made_up):
    root = made_up("root", lambda x: math.sqrt(x), lambda x, out: 0.5 / out)
    x = Value(4.0, "x")
    program = compile(root(x), [x])
    assert program([9.0]) == 3.0
    assert math.isnan(program([-1.0]))


def test_the_square_root_as_a_power_of_minus_zero_is_zero():
    x, y = Value(4.0, "x"), Value(0.5, "y")
    program = compile(x**y, [x, y])
    assert math.copysign(1.0, program([-0.0, 0.5])) == 1.0
    assert program([-math.inf, 0.5]) == math.inf


def test_special_numbers_are_not_lost_by_vectors_and_constant_exponents():
    x, v = Value(0.5, "x"), vector("v", 3, 0.7)
    for root, xs in ((ops.logsumexp(*v), v), (x**0.5, [x]), (x**-0.5, [x]), (x**1.5, [x])):
        numbers = np.array(list(grid(SPECIAL, repeat=len(xs))))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = compile(root, xs)(numbers)
        straight = compile(root, xs, backend="python")
        expected = straight(numbers.tolist())
        wrong = [i for i, y in enumerate(expected) if not same(got[i], y)]
        assert not wrong, [(numbers[i], got[i], expected[i]) for i in wrong]


@pytest.mark.parametrize("backend", BACKENDS)
def test_like_terms_of_opposite_signs_cancel_to_nan_at_infinity(backend):
    x, y = Value(2.0, "x"), Value(3.0, "y")
    for root in ((2 * x - x) + (x * y - 3 * (x * y)), x * y - x * y + y, 0.0 * x + x):
        agrees(root, [x, y], backend)
        value, _ = compile(root, [x, y], [x, y], backend=backend)([math.inf, 1.0])
        assert math.isnan(value)


def test_what_the_engine_refuses_is_refused_on_request_and_the_node_is_named():
    p = Value(2.0, "p")
    program = compile(log(p) * 2, [p], [p])
    assert math.isnan(program([-1.0])[0])
    with pytest.raises(DomainError, match=r"log .* got -1.0 \(label 'p'\)"):
        program([-1.0], check=True)
    assert program([2.0], check=True)[0] == pytest.approx(2 * math.log(2.0))
    with pytest.raises(DomainError):
        program(np.array([[1.0], [-1.0]]), check=True)


@pytest.mark.parametrize("backend", [*BACKENDS, "numba"])
def test_what_the_engine_refuses_is_as_in_ieee_754_without_a_request(backend):
    """The poles are infinite, and what lies outside a domain is NaN."""
    inf, nan = math.inf, math.nan
    x, y = Value(0.5, "x"), Value(2.0, "y")
    for root, values, expected in (
        (x / y, [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [inf, -inf, nan]),
        (x**y, [[0.0, -1.0], [-2.0, 0.5], [-2.0, 3.0]], [inf, nan, -8.0]),
        (x.log(), [[0.0, 0.0], [-1.0, 0.0], [-inf, 0.0], [inf, 0.0]], [-inf, nan, nan, inf]),
        (x.log1p(), [[-1.0, 0.0], [-2.0, 0.0]], [-inf, nan]),
        (x.atanh(), [[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]], [inf, -inf, nan]),
        (x.sqrt(), [[-1.0, 0.0]], [nan]),
    ):
        program = compile(root, [x, y], backend=backend)
        assert [float(program(v)) for v in values] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("backend", [*BACKENDS, "numba"])
def test_values_that_are_no_numbers_are_refused(backend):
    x, y = Value(0.5, "x"), Value(2.0, "y")
    program = compile(x * y, [x, y], backend=backend)
    assert program([Fraction(1, 2), True]) == 0.5
    for values in (["1", "2"], [None, 1.0], [1j, 1.0], [x, y], "12"):
        with pytest.raises(OperandError):
            program(values)


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_of_another_number_are_refused(backend):
    x = Value(1.0, "x")
    program = compile(x * 2, [x], backend=backend)
    for values in ([], [1.0, 2.0]):
        with pytest.raises(InputError, match="takes 1 values"):
            program(values)
    with pytest.raises((InputError, OperandError)):
        program(["a"])


def test_what_is_no_leaf_no_value_or_given_twice_is_refused():
    x = Value(1.0, "x")
    y = x * 2
    with pytest.raises(InputError, match="leaves"):
        compile(y * 3, [y])
    with pytest.raises(InputError, match="twice"):
        compile(y, [x, x])
    with pytest.raises(OperandError):
        compile(3.0, [x])
    with pytest.raises(OperandError):
        compile(y, [1.0])
    with pytest.raises(InputError, match="backend"):
        compile(y, [x], backend="fortran")
    with pytest.raises(InputError, match="output"):
        compile([], [x])


def test_a_batch_in_python_refuses_what_its_rows_refuse():
    x = Value(2.0, "x")
    program = compile(log(x), [x], backend="python")
    assert [math.isnan(y) for y in program([[1.0], [-1.0]])] == [False, True]
    with pytest.raises(DomainError):
        program([[1.0], [-1.0]], check=True)
    with pytest.raises(InputError, match=r"takes 1 values, or rows of 1, .*; got shape \(2,\)"):
        program([1.0, 2.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_may_be_empty(backend):
    x, y = Value(2.0, "x"), Value(3.0, "y")
    nothing = np.empty((0, 2))
    assert len(compile(x * y, [x, y], backend=backend)(nothing)) == 0
    assert [*map(len, compile([x * y, x], [x, y], [x], backend=backend)(nothing))] == [0, 0]
    with pytest.raises(InputError, match="rows of 2"):
        compile(x * y, [x, y], backend=backend)(np.empty((0, 3)))


@pytest.mark.parametrize("do", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_program_that_is_to_be_pickled_or_copied_says_what_to_do(do):
    x = Value(2.0, "x")
    step = compile_step(lambda t: x * t, [x], 1.0)
    for made in (compile(x * x, [x]), compile(x * x, [x], backend="python"), step):
        with pytest.raises(OperandError, match="hand on the Values"):
            do(made)


def test_a_batch_has_a_jacobian_for_each_example():
    x, y = Value(2.0, "x"), Value(3.0, "y")
    values, jacobians = compile([x * y, x + y, x], [x, y], [x, y])([[2.0, 3.0], [4.0, 5.0]])
    assert values.tolist() == [[6.0, 5.0, 2.0], [20.0, 9.0, 4.0]]
    assert jacobians.tolist() == [[[b, a], [1.0, 1.0], [1.0, 0.0]] for a, b in ((2, 3), (4, 5))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_derivative_beside_a_condition_keeps_its_digits(backend):
    x = Value(0.01, "x")
    root = ops.where(ops.step(x), ops.cos(x * x), x)  # as second derivatives have it
    (slope,) = compile(root, [x], [x], backend=backend)([0.01])[1]
    assert slope == pytest.approx(-2.0 * 0.01 * math.sin(1e-4), rel=1e-15)


def test_a_report_counts_the_statements():
    x = Value(1.0, "x")
    program = compile(tanh(x) * x + 1.0, [x])
    assert program.report().statements == len(["x = ", "t1 = ", "t2 = "])


def test_a_convolution_and_a_recurrent_cell_are_few_statements():
    inputs, root = convolution()
    report = compile(root, inputs).report()
    assert report.statements <= 8
    assert report.gathers == 1
    assert report.bytes == 8 * 36 * 9  # of indices
    inputs, root = recurrent_cell()
    assert compile(root, inputs).report().statements <= 30


def test_a_made_up_op_needs_no_knowledge_of_the_compiler(made_up):
    twice = made_up("twice", lambda x: 2 * x, lambda x, out: 2.0)
    x = Value(1.5, "x")
    assert isinstance(twice, Op)
    assert compile(twice(x), [x], [x])([4.0])[0] == 8.0


def test_without_numpy_the_error_names_the_extra_and_python_works():
    program = (
        "import sys\n"
        "sys.modules['numpy'] = None\n"
        "from micrograd_like import Value, compile, compile_step, losses, nn\n"
        "x = Value(2.0, 'x')\n"
        "print(compile(x * x, [x], [x], backend='python')([3.0]))\n"
        "for attempt in (lambda: compile(x * x, [x]), lambda: compile(x, [x], backend='numba'),\n"
        "                lambda: compile_step(nn.MLP(1, [1]), losses.mse, ([1.0], 2.0))):\n"
        "    try:\n"
        "        attempt()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "(9.0, [6.0])"
    assert len(lines) == 4, done.stderr
    assert all("pip install" in line for line in lines[1:])


def test_logsumexp_of_rows_and_of_single_numbers_live_in_one_program():
    a = [[[Value(0.1 * (i + 2 * j - k), f"a{i}[{j}][{k}]") for k in range(3)] for j in range(2)]
         for i in range(2)]  # fmt: skip
    leaves = [v for block in a for row in block for v in row]
    rows = [ops.logsumexp(*row) for block in a for row in block]
    root = sum(r * r for r in rows) + ops.logsumexp(leaves[0], leaves[7], 1.0)
    agrees(root, leaves, "numpy")
    grid = [[x * 2.0 for x in row] for row in a[0]]
    sums = [
        [ops.logsumexp(x, y, x + y) for x in row] for row, y in zip(grid, a[1][0], strict=False)
    ]
    agrees(sum(s * s for row in sums for s in row), leaves, "numpy")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BROKEN_ONCE)
def test_what_once_broke_it_works(name, backend):
    inputs, root = BROKEN_ONCE[name]()
    program = agrees(root, inputs, backend)
    row = [x.data for x in inputs]
    values, gradients = program(np.array([row, row]) if backend == "numpy" else [row, row])
    assert same(values, root.data)
    assert same(gradients, [grad(root, inputs)] * 2, largest(grad(root, inputs)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_constant_output_is_as_long_as_the_batch(backend):
    x = Value(0.5, "x")
    program = compile(Value(2.0), [x], [x], backend=backend)
    assert [list(map(float, program([1.0])[1])), float(program([1.0])[0])] == [[0.0], 2.0]
    values, gradients = program([[1.0], [3.0], [5.0]])
    assert list(values) == [2.0] * 3
    assert [list(row) for row in gradients] == [[0.0]] * 3


@pytest.mark.parametrize("length", [2, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_product_of_matrices_is_added_to_one_with_a_vector_whose_elements_are_as_many(
    length, backend
):
    a, b, d, v = matrix("A", 3, 3), matrix("B", 2, 3), matrix("D", 6, length), vector("v", length)

    def dot(xs, ys):
        return sum(x * y for x, y in zip(xs, ys, strict=True))

    entries = [dot(a[i], b[j]) + dot(d[3 * j + i], v) for i in range(3) for j in range(2)]
    agrees(sum(tanh(x) for x in entries), [*flat(a), *flat(b), *flat(d), *v], backend)


@pytest.mark.parametrize("backend", [*BACKENDS, "numba"])
def test_a_constant_that_became_zero_is_a_pole(backend):
    x, zero = Value(0.5, "x"), Value(2.0)
    root = x - 1.0 / zero
    zero.data = 0.0
    assert compile(root, [x], backend=backend)([1.0]) == -math.inf


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_of_the_side_that_is_not_taken_stays_there(backend):
    w, y = Value(math.nan, "w"), Value(3.0, "y")
    program = compile(ops.where(y, y, w.relu() * 2), [w, y], [w, y], backend=backend)
    assert list(program([math.nan, 3.0])[1]) == [0.0, 1.0]
    assert math.isnan(program([math.nan, 0.0])[1][0])


def test_an_empty_wrt_is_refused():
    x = Value(1.0, "x")
    with pytest.raises(InputError, match="wrt"):
        compile(x * 2, [x], [])


def test_a_series_of_pandas_is_an_array():
    pandas = pytest.importorskip("pandas")
    ws, xs = [Value(1.0, "a"), Value(2.0, "b")], pandas.Series([3.0, 4.0])
    assert affine(ws, xs).data == 11.0
    assert compile(ws[0] * 10.0 + ws[1], ws)(xs) == 34.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_masked_arrays_and_dicts_are_refused(backend):
    x = [Value(1.0, f"x[{i}]") for i in range(2)]
    program = compile(x[0] * 10.0 + x[1], x, backend=backend)
    for bad in (np.ma.array([1.0, 777.0], mask=[False, True]), {0: 5.0, 1: 6.0}):
        with pytest.raises(OperandError, match="numbers in the order of its inputs"):
            program(bad)
