"""Steps of a loss of whole examples: numbers, tokens, lists of them, of any structure."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES
from optional import np

from micrograd_like import Value, compile_step, grad, losses, nn, softmax, take, tanh, where
from micrograd_like.errors import DomainError, InputError, OperandError, TraceError

pytest.importorskip("numpy")

NAN, INF = math.nan, math.inf


def table(rows, columns, rng):
    return [[Value(rng.uniform(-1, 1)) for _ in range(columns)] for _ in range(rows)]


def flat(tree):
    if isinstance(tree, Value):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree
    return [value for item in items for value in flat(item)]


def same(found, expected):
    return (math.isnan(found) and math.isnan(expected)) or found == pytest.approx(
        expected, rel=1e-12, abs=1e-12
    )


def agrees(step, loss, parameters, batch):
    """Whether the step has the eager engine's mean loss and gradient, or is not finite off it."""
    value, gradient = step.value_and_grad(batch)
    try:
        mean = losses.mean([loss(*e) if isinstance(e, tuple) else loss(e) for e in batch])
    except DomainError:
        assert not math.isfinite(value)
        return
    expected = grad(mean, flat(parameters))
    assert same(value, mean.data)
    assert same(step.evaluate(batch), mean.data)
    assert all(map(same, gradient.tolist(), expected))


def bigram(parameters):
    """The loss of a table of logits, of which each token chooses the next one's."""

    def loss(tokens):
        terms = [
            -take(softmax(take(parameters["logits"], a)), b).log()
            for a, b in itertools.pairwise(tokens)
        ]
        return losses.mean(terms)

    return loss


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_tokens_choose_rows_and_labels_anew_in_each_example(backend):
    pytest.importorskip(backend)
    parameters = {"logits": table(5, 5, random.Random(0))}
    step = compile_step(bigram(parameters), parameters, [0, 1, 2, 3], backend=backend)
    for batch in ([[0, 1, 2, 3]], [[4, 4, 4, 4], [3, 0, 0, 1]], [(2, 1)], [[1, 2], [3, 4, 0, 0]]):
        agrees(step, bigram(parameters), parameters, [list(e) for e in batch])


def test_a_step_sets_the_gradients():
    parameters = {"logits": table(3, 3, random.Random(1))}
    step = compile_step(bigram(parameters), parameters, [0, 1, 2])
    value = step([[2, 2, 0], [1, 1, 1]])
    gradients = [p.grad for p in flat(parameters)]
    mean = losses.mean([bigram(parameters)(e) for e in ([2, 2, 0], [1, 1, 1])])
    assert value == pytest.approx(mean.data, rel=1e-13)
    assert gradients == pytest.approx(grad(mean, flat(parameters)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("wrong", [5, -1, 1.5, NAN])
def test_a_token_that_is_none_of_the_rows_is_refused_by_its_name(wrong):
    parameters = {"logits": table(5, 5, random.Random(0))}
    step = compile_step(bigram(parameters), parameters, [0, 1, 2])
    with pytest.raises(InputError, match=r"from 0 to 4, and tokens\[1\] is"):
        step([[0, 1, 2], [0, wrong, 3]])


def test_a_number_may_choose_and_count():
    rows = table(4, 2, random.Random(3))

    def loss(k, x):
        first, second = take(rows, k)
        return (first * x[0] + second * x[1] - k) ** 2 + 0.1 * take([1.0, 2.0, 4.0], k)

    step = compile_step(loss, rows, (1, [0.5, -1.0]))
    agrees(step, loss, rows, [(k, [x, 1.0 - x]) for k, x in [(0, 1.0), (2, -0.3), (1, 0)]])
    with pytest.raises(InputError, match="from 0 to 2, and k is 3"):
        step([(3, [0.5, 1.0])])  # the smaller table decides


@pytest.mark.parametrize("backend", ["numpy", "numba", "jax"])
def test_what_is_beside_a_token_is_compared_and_shown_as_it_is(backend):
    pytest.importorskip(backend)
    rows, w = table(3, 2, random.Random(8)), Value(0.5)
    loss = lambda d: take(rows, d[0])[1] * (w if d[1] > 2.2 else 1.0)  # noqa: E731
    step = compile_step(loss, [*flat(rows), w], [1, 2.5], backend=backend)
    agrees(step, loss, [*rows, w], [[0, 2.1], [2, 2.3], [1, 3.7]])
    step = compile_step(lambda d: take(rows, d[0])[1] + w, [*flat(rows), w], [1], backend=backend)
    agrees(step, lambda d: take(rows, d[0])[1] + w, [*rows, w], [[0], [2], [2]])
    shown = step.forward(lambda d: [take(rows, d[0])[0], d[1]], [1, 2.5])
    assert [row[1] for row in shown.batch([[1, 2.5], [2, -3.7]])] == [2.5, -3.7]


@pytest.mark.parametrize("order", ["abcd", "dabc", "dabd", "abdd", "aabd", "abxx", "xabc", "axbd"])
def test_some_rows_may_be_constants_or_of_the_example(order):
    rows = table(3, 2, random.Random(4))
    known = {**dict(zip("abc", rows, strict=True)), "d": [0.0, 0.5]}

    def loss(i, j, x):
        first, second = take([{**known, "x": x}[name] for name in order], i)
        return (first * x[0] + second * rows[0][1]) ** 2 + take([*rows[1], x[1]], j) * rows[2][0]

    step = compile_step(loss, rows, (0, 0, [0.5, -1.0]))
    batch = [(i, i % 3, [0.3 * i, 1.0 - i]) for i in range(4)]
    for examples in ([example] for example in batch):
        agrees(step, loss, rows, examples)
    agrees(step, loss, rows, batch)


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_chosen_may_be_anything(bad, k):
    rows = [[Value(0.3), Value(-0.2)], [Value(bad), Value(1.0)], [Value(0.5), Value(bad)]]

    def plain(i):
        a, b = take(rows, i)
        return tanh(a) * b

    def switched(i):  # in which a NaN might be lost
        a, b = take(rows, i)
        return where(a, a * a, 3.0) + b.relu() ** 2 + take([1.0, bad, 3.0], i) * b

    def branching(i):
        a, b = take(rows, i)
        return a * a * b if a < b else a * b

    for loss in (plain, switched, branching):
        before = [p.data for p in flat(rows)]
        for p in flat(rows):
            p.data = 0.1
        step = compile_step(loss, rows, 0)
        for p, x in zip(flat(rows), before, strict=True):
            p.data = x
        agrees(step, loss, rows, [k])


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_the_function_knows_nothing_of_rows_that_are_not_chosen(bad):
    rows = table(5, 3, random.Random(8))

    def loss(tokens, i):
        a, b = take(rows, tokens[0]), take(rows, tokens[1])
        return sum(x * y for x, y in zip(a, b, strict=True)) * take([2.0, 3.0, 4.0], i)

    step = compile_step(loss, rows, ([0, 1], 0))
    for x in rows[2]:
        x.data = bad
    batch = [([4, 0], 2), ([1, 3], 1)]
    value, gradient = step.function(*step.arrays(batch))
    mean = losses.mean([loss(*example) for example in batch])
    assert value == pytest.approx(mean.data, rel=1e-12)
    assert gradient.tolist() == pytest.approx(grad(mean, flat(rows)), rel=1e-12)


def test_a_token_may_be_a_number_too_and_choose_among_what_is_computed():
    rows, w = table(4, 2, random.Random(9)), [Value(0.3), Value(-0.7), Value(0.1)]
    parameters = {"rows": rows, "w": w}

    def loss(tokens):
        total = Value(0.0)
        for token in tokens:
            x, y = take(rows, token)
            scores = [(x * a + y).tanh() for a in w]
            total = total + take(scores, token) * token + take(w, token).exp()
        return total / len(tokens)

    step = compile_step(loss, parameters, [0, 1, 2])
    agrees(step, loss, parameters, [[2, 2, 1], [0, 1, 2], [1, 1, 1]])


def test_arguments_are_a_tuple_and_lists_nest():
    w, b = table(2, 3, random.Random(2)), Value(0.3)

    def loss(rows, pairs, scale):
        total = b * scale
        for row, (i, x) in zip(rows, pairs, strict=True):
            total = total + (take(row, i) if len(row) == 2 else row[0]) * x * take(w, i)[2]
        return total * total

    batch = [
        ([[0.5, 1.0], [2.0]], [(0, 0.1), (1, -0.5)], 2),
        ([[0.3, 1], [1]], [[1, 5], [0, 1]], 1.5),
    ]
    step = compile_step(loss, {"w": w, "b": b}, batch[0])
    agrees(step, loss, {"w": w, "b": b}, batch)
    assert "    w = values[:6].reshape(2, 3)\n    b = values[6]\n" in step.source


def test_arrays_are_lists():
    w = [Value(0.5), Value(-0.5)]

    def loss(x):
        return sum(wi * xi for wi, xi in zip(w, x, strict=True)) ** 2

    step = compile_step(loss, w, np.array([1.0, 2.0]))
    expected = step([[1.0, 3.0], [2.0, 5.0]])
    assert step(np.array([[1.0, 3.0], [2.0, 5.0]])) == expected
    assert step([np.array([1, 3]), [np.float32(2.0), 5]]) == expected
    assert step.report().structures == 1


KINDS_APART = [
    (lambda t: 2.0 if isinstance(t, int) else 1.0, 1.0, 1),
    (lambda t: 2.0 if t is True else 1.0, 0.0, True),
    (lambda t: 2.0 if isinstance(t, float) else 1.0, 1, 1.0),
    (lambda t: 2.0 if isinstance(t, tuple) else 1.0, [1.0], (1.0,)),
    (lambda t: 2.0 if hasattr(t, "shape") else 1.0, [1.0], np.array([1.0])),
]


@pytest.mark.parametrize(("f", "first", "later"), KINDS_APART)
def test_what_tells_numbers_by_their_kind_is_refused_when_another_kind_comes(f, first, later):
    w = Value(0.5)
    of = lambda x: x if isinstance(x, (int, float, Value)) else x[0]  # noqa: E731

    def model(x):
        return f(x) * w * of(x)

    if isinstance(first, list):  # a row of inputs
        pair = compile_step(model, lambda out, t: out * t, (first, 1.0), [w])
        with pytest.raises(TraceError, match="tells them apart"):
            pair([later], [1.0])
    pair = compile_step(lambda x: w * of(x), lambda out, t: out * of(t) * f(t), ([1.0], first), [w])
    for _ in range(2):
        with pytest.raises(TraceError, match="tells them apart"):
            pair([[1.0], [2.0]], [first, later])
    loss = lambda x, t: w * x * of(t) * f(t)  # noqa: E731
    step, batch = compile_step(loss, [w], (1.0, first)), [(1.0, first), (1.0, later)]
    if isinstance(later, tuple):  # of another structure than lists
        assert step.evaluate(batch) == losses.mean([loss(*example) for example in batch]).data
        return
    for _ in range(2):
        with pytest.raises(TraceError, match="tells them apart"):
            step(batch)


@pytest.mark.parametrize("change", ["append", "pop", "reverse", "__setitem__"])
def test_a_loss_that_changes_its_example_is_refused(change):
    w = Value(0.5)
    arguments = {"append": (1.0,), "__setitem__": (0, 2.0)}.get(change, ())

    def loss(xs, ts):
        getattr(ts[0], change)(*arguments)
        return sum(w * x for x in xs) * sum(ts[0])

    def model(x):
        getattr(x, change)(*arguments)
        return w * sum(x)

    example = [1.0, 3.0], [[1.0, 2.0]]
    with pytest.raises(TraceError, match=r"changes its example, .* \[\*x, 0\] for x.append"):
        compile_step(loss, [w], example)
    with pytest.raises(TraceError, match="changes its example"):
        compile_step(model, lambda out, t: out * t, ([1.0, 3.0], 1.0), [w])
    assert example == ([1.0, 3.0], [[1.0, 2.0]])


def test_keys_name_the_arrays_and_a_value_with_two_names_counts_once():
    shared = table(3, 2, random.Random(0))
    parameters = {"wte": shared, "layers": [{"q": table(2, 2, random.Random(1)), "b": Value(1.0)}],
                  "head": shared}  # fmt: skip

    def loss(i):
        x = take(parameters["wte"], i)
        (layer,) = parameters["layers"]
        y = [
            tanh(sum(q * v for q, v in zip(row, x, strict=True)) + layer["b"]) for row in layer["q"]
        ]
        return losses.cross_entropy(
            [sum(h * v for h, v in zip(row, y, strict=True)) for row in parameters["head"]], i
        )

    step = compile_step(loss, parameters, 1)
    assert len(step.parameters) == 6 + 4 + 1
    for name in ("wte", "layers_0_q", "layers_0_b"):
        assert f"    {name} = values[" in step.source
    agrees_on = losses.mean([loss(i) for i in range(3)])
    value, gradient = step.value_and_grad([0, 1, 2])
    assert value == pytest.approx(agrees_on.data, rel=1e-13)
    assert gradient.tolist() == pytest.approx(grad(agrees_on, step.parameters), rel=1e-12)


def test_static_arguments_have_programs_of_their_own():
    w = Value(0.7)
    names = {"square": lambda z: z * z, "cube": lambda z: z * z * z}

    def loss(x, kind, power):
        return names[kind](w * x) ** power

    step = compile_step(loss, [w], (2.0, "square", 1), static=(1, 2))
    for batch in ([(3.0, "square", 1)], [(1.0, "cube", 2), (2.0, "square", 1), (4.0, "cube", 2)]):
        agrees(step, loss, [w], batch)
    with pytest.raises(OperandError, match="not hashable"):
        step([(1.0, [], 1)])
    with pytest.raises(OperandError, match=r"static=\(its place,\)"):
        compile_step(loss, [w], (2.0, "square", 1))


@pytest.mark.parametrize("statics", [(0.0, -0.0), (1, True), ((1,), (1.0,)), ((0.0,), (-0.0,))])
def test_static_arguments_that_are_equal_but_not_the_same_are_told_apart(statics):
    w = Value(0.5)
    loss = lambda x, static: w * x * len(repr(static))  # noqa: E731
    batch = [(1.0, static) for static in statics]
    step = compile_step(loss, [w], batch[0], static=(1,))
    agrees(step, loss, [w], batch)


def test_a_computed_choice_is_refused_though_the_error_is_caught():
    def loss(x, i):
        try:
            return take([w, w * 2.0], i + 1) * x
        except ValueError:
            return w * 9.0

    w = Value(0.5)
    with pytest.raises(TraceError, match="used as an integer at"):
        compile_step(loss, [w], (1.0, 1))


def test_branches_and_tokens_are_followed_together():
    rows = table(6, 2, random.Random(9))

    def loss(tokens):
        total = Value(0.0)
        for token in tokens:
            a, b = take(rows, token)
            total = total + (a * b if a < b else (a - b) ** 2)
            if token == 5:
                total = total * 0.5
        return total

    step = compile_step(loss, rows, [0, 1])
    rng = random.Random(4)
    agrees(step, loss, rows, [[rng.randrange(6) for _ in range(2)] for _ in range(30)])


@pytest.mark.parametrize("backend", ["numpy", "numba", "jax"])
@pytest.mark.parametrize(
    "tokens", [[0, 2, -100, 1], [0, 2, 9, 1], [1, 0.5, 2**40, -0.25], [2, NAN, INF, 0]]
)
def test_what_is_no_token_may_take_another_way(tokens, backend):
    """Where branches look after padding, no row is chosen by it."""
    if backend != "numpy":
        pytest.importorskip(backend)
    w = [Value(0.3), Value(-0.2), Value(0.5)]

    def loss(token):
        return take(w, token) ** 2 if token in (0, 1, 2) else w[0] * 2.0

    step = compile_step(loss, w, 0, backend=backend)
    expected = losses.mean(list(map(loss, tokens)))
    value, gradient = step.value_and_grad(tokens)
    assert value == pytest.approx(expected.data, rel=1e-12)
    assert gradient == pytest.approx(grad(expected, w), rel=1e-12)


def test_a_token_that_chooses_nothing_on_its_way_is_refused_by_name():
    w = [Value(0.3), Value(-0.2), Value(0.5)]
    step = compile_step(lambda t: take(w, t) if t > 0 else w[0] * 2.0, w, 0)
    with pytest.raises(InputError, match="from 0 to 2"):
        step.evaluate([0, 1, 7])


# --- what is refused, and what it says ------------------------------------------------------------


def test_indexing_and_reading_are_refused_with_every_line_and_what_to_write():
    rows = table(4, 4, random.Random(0))

    def loss(tokens):
        x = rows[tokens[0]]
        top = max(v.data for v in x)
        exps = [(v - top).exp() for v in x]
        return -(exps[tokens[1]] / sum(exps)).log()

    with pytest.raises(TraceError) as caught:
        compile_step(loss, rows, [1, 2])
    message = str(caught.value)
    for part in ("top = max(v.data for v in x)", "softmax(values)", "x = rows[tokens[0]]",
                 "return -(exps[tokens[1]] / sum(exps)).log()", "take(rows, i)"):  # fmt: skip
        assert part in message


@pytest.mark.parametrize("use", [
    lambda t: range(t), lambda t: [1.0, 2.0, 3.0][t], lambda t: {1: 2.0}[t], lambda t: int(t),
    lambda t: float(t), lambda t: math.sqrt(t), lambda t: {t, 2}, lambda t: "ab"[t],
    lambda t: f"{t:.3f}", lambda t: round(t),
])  # fmt: skip
def test_other_uses_of_an_integer_are_refused_with_the_line(use):
    w = Value(1.0)
    assert use(1) is not None

    def loss(t):
        use(t)
        return w * t

    with pytest.raises(
        TraceError, match=r"test_examples\.py:\d+ \(lambda t: range|which is not kno"
    ):
        compile_step(loss, [w], 1)


def test_what_tells_values_from_numbers_is_refused():
    w = Value(2.0)
    with pytest.raises(TraceError, match=r"makes 2\.0, where it makes 4\.0 of plain ones"):
        compile_step(lambda t: w * t * (2.0 if isinstance(t, int) else 1.0), [w], 1)


def test_a_computed_choice_is_refused():
    rows = table(4, 1, random.Random(0))
    with pytest.raises(TraceError, match="a number of the example as it is"):
        compile_step(lambda t: take(rows, t + 1)[0], rows, 1)
    with pytest.raises(OperandError, match="chooses by a plain number"):
        compile_step(lambda t: take(rows, rows[0][0] * t)[0], rows, 1)
    kept = []

    def loss(t):
        kept.append(t)
        return take(rows, kept[0])[0]

    with pytest.raises(OperandError, match=r"a plain number, and .* was computed"):
        compile_step(loss, rows, 1)


def test_an_example_alone_or_one_without_a_number_is_refused():
    w = Value(2.0)
    step = compile_step(lambda ts: w * sum(ts), [w], [1.0, 2.0])
    with pytest.raises(InputError, match=r"step\(\[example\]\)"):
        step([1, 2])
    with pytest.raises(InputError, match=r"example 1 of the batch, \[\], has no number"):
        step([[1], [], [2]])
    assert compile_step(lambda t: w * t, [w], 1.0)([1, 2]) == 3.0


def test_rows_of_different_lengths_are_refused():
    rows = [[Value(1.0)], [Value(1.0), Value(2.0)]]
    with pytest.raises(TraceError, match="rows of one length"):
        compile_step(lambda t: sum(take(rows, t)), rows, 1)


def test_a_module_where_parameters_are_due_is_refused():
    model = nn.MLP(2, [2], seed=0)

    def loss(x, y):
        return losses.cross_entropy(model(x), y)

    for arguments in ((loss, model, ([1.0, 2.0], 1)), (loss, {"m": model}, ([1.0, 2.0], 1))):
        with pytest.raises(OperandError, match=r"module\.parameters\(\)"):
            compile_step(*arguments)
    step = compile_step(loss, model.parameters(), ([1.0, 2.0], 1))
    agrees(step, loss, model.parameters(), [([0.3, -1.0], 0), ([0.5, 2.0], 1)])
    assert "W1" in step.source


def test_both_forms_take_their_arguments_by_name():
    model = nn.MLP(2, [2], seed=0)
    x, y = [0.5, -1.0], 1
    for pairs in (
        compile_step(model=model, loss=losses.cross_entropy, example=(x, y)),
        compile_step(
            model, loss=losses.cross_entropy, example=(x, y), parameters=model.parameters()
        ),
        compile_step(model, losses.cross_entropy, (x, y), model.parameters()),
    ):
        assert pairs([x], [y]) == pytest.approx(losses.cross_entropy(model(x), y).data)
    w = Value(2.0)
    for nested in (
        compile_step(loss=lambda x: w * x, parameters=[w], example=1.0),
        compile_step(lambda x: w * x, parameters=[w], example=1.0),
        compile_step(lambda x: w * x, [w], example=1.0),
    ):
        assert nested([3.0, 5.0]) == 8.0
    for arguments, named in (
        ((lambda x: w * x, [w]), {}), ((lambda x: w * x, [w], 1.0, 2.0), {}), ((), {"loss": abs}),
        ((lambda x: w * x, [w], 1.0), {"loss": abs}), ((lambda x: w * x, [w], 1.0), {"what": 1}),
    ):  # fmt: skip
        with pytest.raises(OperandError, match="compile_step"):
            compile_step(*arguments, **named)


def test_parameters_and_batches_that_are_none_are_refused():
    w = Value(2.0)
    for parameters in ([w, 1.0], {"w": "w"}, w * 2.0, {w}):
        with pytest.raises((OperandError, InputError)):
            compile_step(lambda x: w * x, parameters, 1.0)
    with pytest.raises(InputError, match="parameters are needed"):
        compile_step(lambda x: w * x, {}, 1.0)
    step = compile_step(lambda x: w * x, [w], 1.0)
    for batch in ([], ()):
        with pytest.raises(InputError, match="empty"):
            step(batch)
    with pytest.raises(OperandError, match="list of examples"):
        step(3.0)
    with pytest.raises(InputError, match="2 arguments"):
        step([1.0], [2.0])
    with pytest.raises(OperandError, match="numbers, and lists"):
        step(["1"])
    with pytest.raises(InputError, match="no number"):
        compile_step(lambda x: w * w, [w], [])


def test_a_batch_may_have_lists_and_numbers_and_one_list_alone_is_no_batch():
    w = Value(2.0)
    step = compile_step(lambda x: w * (sum(x) if isinstance(x, list) else x), [w], [1.0, 2.0])
    assert step([3.0, [1.0, 2.0], 4.0]) == pytest.approx(20 / 3)
    with pytest.raises(InputError, match="for one alone"):
        step([1.0, 2.0])


# --- losses at random -----------------------------------------------------------------------------


def random_loss(seed):
    """Tables of several sizes, taken from by tokens, computed with, and taken from again."""
    rng = random.Random(seed)
    choices, width = rng.randint(2, 5), rng.randint(1, 3)
    parameters = {"a": table(choices, width, rng), "b": table(choices, width, rng),
                  "m": table(choices, width, rng), "c": Value(rng.uniform(-1, 1))}  # fmt: skip
    kinds = [rng.randrange(5) for _ in range(3)]

    def loss(tokens, xs):
        terms = []
        for t, token in enumerate(tokens):
            row = take(parameters["a" if kinds[0] % 2 else "b"], token)
            h = [tanh(r * x + parameters["c"]) for r, x in zip(row, xs, strict=True)]
            logits = [sum(m * v for m, v in zip(ms, h, strict=True)) for ms in parameters["m"]]
            after = tokens[(t + 1) % len(tokens)]
            kind = kinds[1 + t % 2]
            if kind == 0:
                term = losses.cross_entropy(logits, after)
            elif kind == 1:
                term = -take(softmax(logits), after).log()
            elif kind == 2:
                term = take(logits, after) ** 2 * token
            elif kind == 3:
                term = sum(take(parameters["b"], after)) * take(logits, token)
            else:
                term = take([z * z for z in logits], after) + 0.1 * sum(h)
            terms.append(term)
        return losses.mean(terms)

    def example():
        tokens = [rng.randrange(choices) for _ in range(rng.randint(1, 3))]
        return tokens, [rng.choice([rng.uniform(-1, 1), rng.randrange(3)]) for _ in range(width)]

    return loss, parameters, [example() for _ in range(rng.randint(1, 5))]


@settings(max_examples=CASES or 25)
@given(seed=st.integers(0, 10**9))
def test_any_loss_of_tokens_is_the_eager_engines(seed):
    loss, parameters, batch = random_loss(seed)
    step = compile_step(loss, parameters, batch[0])
    agrees(step, loss, parameters, batch)
    rng = random.Random(seed)
    for p in flat(parameters):
        p.data = rng.choice(
            [rng.uniform(-2, 2), 0.0, rng.uniform(-2, 2), rng.choice([INF, NAN, 1.0])]
        )
    agrees(step, loss, parameters, batch)


@pytest.mark.parametrize("lengths", [(2, 3), (2, 4, 3), (3, 2, 6, 1), (1, 2)])
def test_longer_examples_than_the_traced_one_come_beside_shorter_ones(lengths):
    w = [Value(0.5), Value(-0.3)]
    loss = lambda xs: sum((w[0] * x - w[1]) ** 2 for x in xs)  # noqa: E731
    some = [[0.1 * i - 0.7 * n for i in range(n)] for n in lengths]
    step = compile_step(loss, w, some[0])
    for batch in (some, some[::-1], some[1:], some):
        agrees(step, loss, w, batch)


@pytest.mark.parametrize("first", [[1, 2, 0], [2, 1, 2]])
def test_labels_to_be_ignored_are_left_out_of_each_example(first):
    w = [Value(0.5), Value(-0.3), Value(0.1)]

    def loss(tokens):
        rows = [[v * (1.0 + 0.5 * i) for v in w] for i in range(len(tokens))]
        return losses.cross_entropy(rows, tokens, ignore_index=0)

    step = compile_step(loss, w, first)
    for batch in ([[1, 2, 0]], [[2, 1, 2], [1, 0, 0], [1, 2, 0], [0, 0, 2]]):
        agrees(step, loss, w, batch)
    with pytest.raises(InputError, match="no example is left"):
        step([[0, 0, 0]])
