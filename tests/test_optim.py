"""optim.py: PyTorch's update rules, and refusals that change nothing."""

import json
import math
from pathlib import Path

import pytest
from optional import np

from micrograd_like import MicrogradError, Value, optim
from micrograd_like.errors import InputError

RECORDED = json.loads(
    (Path(__file__).parent / "data" / "optimizer_trajectories.json").read_text(encoding="utf-8")
)
RULES = [optim.SGD, optim.Adam, optim.AdamW]


def follow(make, start, gradients):
    parameters = [Value(x) for x in start]
    optimizer = make(parameters)
    trajectory = []
    for row in gradients:
        for p, g in zip(parameters, row, strict=True):
            p.grad = g
        optimizer.step()
        trajectory.append([p.data for p in parameters])
    return trajectory


def differs(trajectory, expected):
    return any(
        abs(a - b) > 1e-12 * max(1.0, abs(b))
        for got, want in zip(trajectory, expected, strict=True)
        for a, b in zip(got, want, strict=True)
    )


@pytest.mark.parametrize("run", RECORDED["runs"], ids=lambda r: f"{r['optimizer']} {r['options']}")
def test_steps_equal_those_of_pytorch(run):
    rule = getattr(optim, run["optimizer"])
    options = run["options"]
    got = follow(lambda p: rule(p, **options), RECORDED["start"], RECORDED["gradients"])
    assert not differs(got, run["trajectory"])
    slightly_off = {**options, "lr": options.get("lr", 1e-3) * 1.001}
    got = follow(lambda p: rule(p, **slightly_off), RECORDED["start"], RECORDED["gradients"])
    assert differs(got, run["trajectory"])  # the comparison can fail


@pytest.mark.parametrize("rule", RULES)
def test_the_default_rate_is_a_thousandth(rule):
    assert follow(rule, [1.0], [[2.0]]) == follow(lambda p: rule(p, lr=0.001), [1.0], [[2.0]])


@pytest.mark.parametrize("rule", RULES)
def test_zero_grad_sets_every_gradient_to_zero(rule):
    parameters = [Value(1.0), Value(2.0)]
    for p in parameters:
        p.grad = 3.0
    rule(parameters).zero_grad()
    assert [p.grad for p in parameters] == [0.0, 0.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rule", RULES)
def test_a_step_leaves_gradients_which_add_up_until_they_are_zeroed_by_any_means(rule):
    w = Value(3.0)
    optimizer = rule([w], lr=0.0)
    grads = []
    for zero in (lambda: None, lambda: None, optimizer.zero_grad, lambda: setattr(w, "grad", 0)):
        zero()
        (w * 2.0).backward()
        optimizer.step()
        assert type(w.grad) is float
        grads.append(w.grad)
    assert grads == [2.0, 4.0, 2.0, 2.0]


@pytest.mark.parametrize("run", RECORDED["runs"], ids=lambda r: f"{r['optimizer']} {r['options']}")
def test_a_snapshot_brings_back_parameters_and_memory_but_no_settings(run):
    parameters = [Value(x) for x in RECORDED["start"]]
    optimizer = getattr(optim, run["optimizer"])(parameters, **run["options"])

    def step(row):
        for p, g in zip(parameters, row, strict=True):
            p.grad = g
        optimizer.step()
        return [p.data for p in parameters]

    first, *rest = RECORDED["gradients"]
    before, start = step(first), optimizer.snapshot()
    state = optimizer.state_dict()
    after = [step(row) for row in rest]
    optimizer.restore(start)
    assert [p.data for p in parameters] == before
    assert optimizer.state_dict() == state
    assert [step(row) for row in rest] == after
    optimizer.lr = 0.5
    optimizer.restore(start)
    assert optimizer.settings()["lr"] == optimizer.lr == 0.5


def test_changing_what_state_dict_gave_changes_no_optimizer():
    optimizer = optim.Adam([Value(1.0)])
    state = optimizer.state_dict()
    state["memory"]["steps"] = 7
    state["settings"]["lr"] = 7.0
    assert optimizer.state_dict() == optim.Adam([Value(1.0)]).state_dict()


def test_a_snapshot_that_does_not_fit_changes_nothing():
    optimizer = optim.Adam([Value(1.0), Value(2.0)])
    before = optimizer.state_dict()
    for numbers in ([5.0], [5.0, 6.0, 7.0], [5.0, "x"]):
        with pytest.raises((ValueError, TypeError)):
            optimizer.restore((numbers, None))
        assert [p.data for p in optimizer.params] == [1.0, 2.0]
        assert optimizer.state_dict() == before


@pytest.mark.parametrize("run", RECORDED["runs"], ids=lambda r: f"{r['optimizer']} {r['options']}")
def test_a_loaded_state_goes_on_to_the_last_bit(run):
    rule, gradients = getattr(optim, run["optimizer"]), RECORDED["gradients"]

    def stepped(optimizer, rows):
        for row in rows:
            for p, g in zip(optimizer.params, row, strict=True):
                p.grad = g
            optimizer.step()
        return [p.data.hex() for p in optimizer.params]

    straight = rule([Value(x) for x in RECORDED["start"]], **run["options"])
    first = rule([Value(x) for x in RECORDED["start"]], **run["options"])
    expected = stepped(straight, gradients)
    stepped(first, gradients[:3])
    second = rule([Value(p.data) for p in first.params])  # the settings are loaded too
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert stepped(second, gradients[3:]) == expected
    assert second.state_dict() == straight.state_dict()


def test_a_state_of_another_rule_or_of_other_parameters_is_refused_and_changes_nothing():
    one, two = Value(1.0), Value(2.0)
    adam = optim.Adam([one, two], lr=0.5)
    one.grad = 1.0
    adam.step()
    before = adam.state_dict()
    memory = {**before["memory"], "m": [math.nan, 0.0]}
    for other, says in [
        (optim.SGD([one, two]).state_dict(), "no state of Adam: it is of 'SGD'"),
        (optim.Adam([one]).state_dict(), "not for 2 parameters"),
        ({**before, "memory": memory}, "below inf, got nan"),
        ({}, "'rule'"),
        (None, "no state of Adam"),
    ]:
        with pytest.raises(ValueError, match=says) as caught:
            adam.load_state_dict(other)
        assert isinstance(caught.value, MicrogradError)
        assert adam.state_dict() == before


@pytest.mark.parametrize("rule", RULES)
def test_a_step_that_fails_changes_no_parameter(rule):
    parameters = [Value(1.0), Value(2.0)]
    optimizer = rule(parameters, lr=0.1)
    parameters[0].grad, parameters[1].grad = 1.0, 2.0
    optimizer.lr = lambda steps: "not a number"
    with pytest.raises((TypeError, ValueError)):
        optimizer.step()
    assert [p.data for p in parameters] == [1.0, 2.0]


def warmed_up(steps):
    return 0.1 * min(1.0, (steps + 1) / 4)


@pytest.mark.parametrize("rule", RULES)
def test_a_schedule_is_asked_for_the_rate_of_each_step(rule):
    asked = []
    scheduled = follow(
        lambda p: rule(p, lr=lambda steps: asked.append(steps) or warmed_up(steps)),
        RECORDED["start"],
        RECORDED["gradients"],
    )
    parameters = [Value(x) for x in RECORDED["start"]]
    optimizer = rule(parameters)
    for steps, row in enumerate(RECORDED["gradients"]):
        optimizer.lr = warmed_up(steps)
        for p, g in zip(parameters, row, strict=True):
            p.grad = g
        optimizer.step()
        assert scheduled[steps] == [p.data for p in parameters]
    assert asked == list(range(len(RECORDED["gradients"])))


@pytest.mark.parametrize("rule", RULES)
def test_a_state_goes_on_with_the_same_schedule_only(rule):
    def made(lr, steps=0):
        w = Value(1.0)
        optimizer = rule([w], lr=lr)
        for _ in range(steps):
            w.grad = w.data
            optimizer.step()
        return optimizer

    state = json.loads(json.dumps(made(warmed_up, 3).state_dict()))
    second = made(warmed_up)
    second.load_state_dict(state)
    assert second.state_dict() == made(warmed_up, 3).state_dict() == state
    assert second.lr is warmed_up

    def other(steps):
        return warmed_up(steps) * 2.0

    same_name = lambda steps: other(steps)  # noqa: E731
    same_name.__name__ = "warmed_up"
    for lr, says in [
        (0.1, "its lr is 'the function warmed_up', not 0.1"),
        (other, "not 'the function other'"),
        (same_name, r"its latest lr is 0\.075\d*, not 0\.15"),
    ]:
        optimizer = made(lr)
        before = optimizer.state_dict()
        with pytest.raises(ValueError, match=says):
            optimizer.load_state_dict(state)
        assert optimizer.state_dict() == before
    with pytest.raises(ValueError, match=r"its lr is 0\.1, not 'the function warmed_up'"):
        made(warmed_up).load_state_dict(made(0.1).state_dict())


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, "0.1", None])
def test_a_schedule_whose_rate_is_none_changes_nothing(rate):
    w = Value(1.0)
    optimizer = optim.SGD([w], lr=lambda steps: rate)
    w.grad = 1.0
    with pytest.raises((ValueError, TypeError)) as caught:
        optimizer.step()
    assert isinstance(caught.value, MicrogradError)
    assert w.data == 1.0


def test_a_state_that_knows_no_longest_gradient_has_none():
    optimizer = optim.SGD([Value(1.0)], lr=0.5)
    state = optimizer.state_dict()
    assert state["settings"].pop("max_norm") is None
    optimizer.load_state_dict(state)
    limited = optim.SGD([Value(1.0)], lr=0.5, max_norm=2.0)
    optimizer.load_state_dict(limited.state_dict())
    assert optimizer.max_norm == 2.0


def test_a_gradient_beyond_the_squares_of_floats_is_shortened():
    parameters = [Value(0.0), Value(0.0)]
    optimizer = optim.SGD(parameters, lr=1.0, max_norm=5.0)
    parameters[0].grad, parameters[1].grad = 3e200, -4e200
    optimizer.step()
    assert [p.data for p in parameters] == pytest.approx([-3.0, 4.0])


def test_a_gradient_that_is_no_number_shortens_to_none():
    parameters = [Value(0.0), Value(0.0)]
    parameters[0].grad, parameters[1].grad = math.nan, 100.0
    optim.SGD(parameters, lr=1.0, max_norm=1.0).step()  # the length is that of all
    assert [math.isnan(p.data) for p in parameters] == [True, True]


def test_gradient_descent_finds_a_minimum():
    x, y = Value(-1.0), Value(2.0)
    optimizer = optim.Adam([x, y], lr=0.05)
    for _ in range(2000):
        loss = (1.0 - x) ** 2 + 10.0 * (y - x**2) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.dist((x.data, y.data), (1.0, 1.0)) < 1e-3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: optim.SGD([]), "at least one parameter"),
        (lambda: optim.SGD([Value(1.0)], lr=-1.0), r"^lr\b"),
        (lambda: optim.SGD([Value(1.0)], lr=math.nan), r"^lr\b"),
        (lambda: optim.SGD([Value(1.0)], lr=math.inf), r"^lr\b"),
        (lambda: optim.AdamW([Value(1.0)], max_norm=-1.0), r"^max_norm\b"),
        (lambda: optim.SGD([Value(1.0)], momentum=-0.1), r"^momentum\b"),
        (lambda: optim.SGD([Value(1.0)], weight_decay=-0.1), r"^weight_decay\b"),
        (lambda: optim.Adam([Value(1.0)], betas=(-0.1, 0.9)), r"^betas\[0\]"),
        (lambda: optim.Adam([Value(1.0)], betas=(0.9, -0.1)), r"^betas\[1\]"),
        (lambda: optim.Adam([Value(1.0)], betas=(0.9, 1.0)), "^betas.*1.0"),
        (lambda: optim.Adam([Value(1.0)], betas=(0.9, 0.99, 0.999)), "^betas"),
        (lambda: optim.Adam([Value(1.0)], betas=0.9), "^betas"),
        (lambda: optim.Adam([Value(1.0)], eps=-1.0), r"^eps\b"),
    ],
)
def test_options_out_of_range_are_refused(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert isinstance(caught.value, MicrogradError)


def test_what_is_no_parameter_is_refused():
    with pytest.raises(TypeError, match="Values"):
        optim.SGD([1.0])
    for one in (Value(1.0, "w"), 1.0):
        with pytest.raises(TypeError, match=r"list.*1\.0"):
            optim.SGD(one)
    shared = Value(1.0)
    with pytest.raises(ValueError, match="twice"):
        optim.SGD([shared, shared])


@pytest.mark.parametrize("rule", [lambda p: optim.SGD(p, momentum=0.9), optim.Adam])
def test_what_is_remembered_of_other_parameters_is_refused(rule):
    parameters = [Value(1.0), Value(2.0)]
    optimizer = rule(parameters)
    optimizer.step()
    for others in ([*parameters, Value(3.0)], parameters[:1], parameters[::-1], [Value(1.0)] * 2):
        optimizer.params[:] = others
        before = optimizer.snapshot()
        with pytest.raises(InputError, match=f"{len(others)} parameters, and remembers others"):
            optimizer.step()
        assert optimizer.snapshot() == before
    optimizer.params[:] = parameters
    optimizer.step()


def test_without_a_memory_other_parameters_may_take_turns():
    first, second = Value(1.0), Value(2.0)
    optimizer = optim.SGD([first], lr=0.5)
    optimizer.step()
    optimizer.params.append(second)
    second.grad = 1.0
    optimizer.step()
    assert (first.data, second.data) == (1.0, 1.5)


def test_a_computed_node_is_no_parameter():
    """Its gradient is set by each sweep, and would not add up over the examples of a batch."""
    weights = [Value(0.5, label="w") * 0.1, Value(1.0)]
    with pytest.raises(ValueError, match=r"parameters are leaves.*was computed.*\.detach\(\)"):
        optim.SGD(weights)
    optim.SGD([w.detach() for w in weights])


def test_options_of_numpy_are_numbers_in_full():
    w = Value(1.0)
    optimizer = optim.SGD([w])
    w.grad, optimizer.lr = 1 / 3, np.float32(0.5)
    optimizer.step()
    assert w.data == 1.0 - 0.5 * (1 / 3)
    optimizer.lr = np.array(0.25)
    assert json.loads(json.dumps(optimizer.state_dict()))["settings"]["lr"] == 0.25
    adam = optim.Adam([w], betas=np.array([0.5, 0.75]))
    assert adam.betas == (0.5, 0.75)


ASSIGNED = {"lr": 0.3, "weight_decay": 0.2, "max_norm": 0.7, "momentum": 0.6, "eps": 0.1}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", [*ASSIGNED, "betas"])
def test_an_option_may_be_assigned_as_it_is_given(rule, name):
    options = {name: np.float32(ASSIGNED[name]) if name in ASSIGNED else [np.float32(0.7), 0.8]}
    try:
        given = rule([Value(1.0), Value(-2.0)], **options)
    except TypeError:
        pytest.skip("it has no such option")
    assigned = rule([Value(1.0), Value(-2.0)])
    setattr(assigned, name, options[name])
    for optimizer in (given, assigned):
        for k in range(3):
            for p in optimizer.params:
                p.grad = k - 1 / 3
            optimizer.step()
    assert given.state_dict() == assigned.state_dict()
    assert [p.data for p in given.params] == [p.data for p in assigned.params]
    before = getattr(assigned, name)
    for wrong in (math.nan, -0.1, math.inf, (0.5, -1.0), "0.1"):
        with pytest.raises((TypeError, ValueError), match=r"number|at least 0|compute with"):
            setattr(assigned, name, wrong)
    assert getattr(assigned, name) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda p: optim.SGD(p, 0.1, 0.9, 0.0),
        lambda p: optim.Adam(p, 0.1, (0.9, 0.99), 1e-8, 0.0, 1),
    ],
)
def test_what_has_another_meaning_in_pytorch_is_not_given_by_its_place(call):
    with pytest.raises(TypeError, match="positional"):
        call([Value(1.0)])
