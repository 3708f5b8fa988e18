"""Interrupts and failures: whatever is cut short, models, files and settings are whole."""

import errno
import gc
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from micrograd_like import (
    Value,
    cli,
    compile_step,
    gradcheck,
    gradients,
    losses,
    modes,
    nn,
    no_grad,
    optim,
    training,
    value_and_grad,
)
from micrograd_like.datasets import moons
from micrograd_like.views.drawing import draw
from micrograd_like.views.pages import player

resource = pytest.importorskip("resource", reason="limits on files are POSIX")

DATA = moons(12)
OPTIMIZERS = {
    "sgd": lambda model: optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda model: optim.Adam(model.parameters(), lr=0.01),
}


class Interrupter:
    """Sends SIGINT at the n-th place at which Python looks for signals beside the ends of loops.

    These are the beginnings of Python's functions and the ends of C's, which a profiler sees.
    Within NumPy there are none: its comparisons take an interrupt for a TypeError.
    """

    def __init__(self, place=None):
        self.place = place
        self.count = 0

    def __call__(self, frame, event, argument):
        if event in ("call", "c_return") and "numpy" not in frame.f_code.co_filename:
            self.count += 1
            if self.count == self.place:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    def run(self, function):
        """What the function returns; None if it is interrupted."""
        sys.setprofile(self)
        try:
            return function()
        except KeyboardInterrupt:
            return None
        finally:
            sys.setprofile(None)


@contextmanager
def alarm(seconds):
    """Ctrl-C after that time, wherever that is."""
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def training_of(engine_name, rule):
    model = nn.MLP(2, [3, 2], seed=0)
    descent = OPTIMIZERS[rule](model)

    def fit():
        return training.fit(
            model, DATA.X, DATA.y, optimizer=descent, epochs=2, batch_size=5, engine=engine_name,
            validation=0.25,
        )  # fmt: skip

    return model, descent, fit


def numbers(model, descent):
    return [p.data for p in model.parameters()], descent.snapshot()


def assert_nothing_is_left_switched_off():
    assert gc.isenabled()
    assert modes._pauses == 0
    assert (len(modes.open_blocks), no_grad.open_here()) == (0, ())
    assert (Value(1.0) * 2.0).parents
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def whole_steps(engine_name, rule, monkeypatch):
    """The states between the steps of a training that nobody interrupts, and its history."""
    model, descent, fit = training_of(engine_name, rule)
    states = [numbers(model, descent)]
    with monkeypatch.context() as patch:
        kind = type(descent)
        step = kind.step
        patch.setattr(kind, "step", lambda d: (step(d), states.append(numbers(model, d)))[0])
        history = fit()
    return states, history.rows()


def assert_whole(model, descent, history, states, rows):
    assert numbers(model, descent) in states
    assert_nothing_is_left_switched_off()
    if history is not None:
        assert history.rows() == rows[: len(history)]


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("engine_name", ["eager", "compiled"])
def test_control_c_anywhere_in_fit_leaves_a_whole_step(engine_name, rule, monkeypatch):
    if engine_name == "compiled":
        pytest.importorskip("numpy")
    states, rows = whole_steps(engine_name, rule, monkeypatch)
    counter = Interrupter()
    counter.run(training_of(engine_name, rule)[2])
    trials = int(os.environ.get("INTERRUPTS", "60"))
    seen = set()
    for place in sorted(random.Random(0).sample(range(1, counter.count), trials)):
        model, descent, fit = training_of(engine_name, rule)
        history = Interrupter(place).run(fit)
        assert_whole(model, descent, history, states, rows)
        seen.add(states.index(numbers(model, descent)))
    assert len(seen) > 2  # they came at all times


@pytest.mark.parametrize("engine_name", ["eager", "compiled"])
def test_control_c_at_any_time_in_fit_leaves_a_whole_step(engine_name, monkeypatch):
    if engine_name == "compiled":
        pytest.importorskip("numpy")
    states, rows = whole_steps(engine_name, "adam", monkeypatch)
    start = time.perf_counter()
    training_of(engine_name, "adam")[2]()
    length = time.perf_counter() - start
    rng = random.Random(0)
    for _ in range(int(os.environ.get("INTERRUPTS", "30"))):
        model, descent, fit = training_of(engine_name, "adam")
        history = None
        try:
            with alarm(rng.uniform(1e-5, length)):
                history = fit()
        except KeyboardInterrupt:  # before fit began, or when it was over
            pass
        except TypeError:  # for which NumPy takes an interrupt in a comparison of its own
            assert engine_name == "compiled"
        assert_whole(model, descent, history, states, rows)


def places_of(function):
    counter = Interrupter()
    counter.run(function)
    return range(1, counter.count + 1)


def test_control_c_in_an_optimizers_step_changes_all_or_nothing():
    def made(rule):
        model = nn.MLP(1, [2], seed=0)
        descent = OPTIMIZERS[rule](model)
        for k, p in enumerate(model.parameters()):
            p.grad = k + 1.0
        return model, descent

    for rule in OPTIMIZERS:
        model, descent = made(rule)
        states = [numbers(model, descent)]
        descent.step()
        states.append(numbers(model, descent))
        for place in places_of(made(rule)[1].step):
            model, descent = made(rule)
            Interrupter(place).run(descent.step)
            assert numbers(model, descent) in states


def test_control_c_in_backward_and_in_loading_changes_all_or_nothing():
    def leaves_of(x, y):
        return [x.grad, y.grad]

    def made():
        x, y = Value(2.0), Value(3.0)
        x.grad = y.grad = 1.0
        return x, y, x * y + x

    for place in places_of(made()[2].backward):
        x, y, root = made()
        Interrupter(place).run(root.backward)
        assert leaves_of(x, y) in ([1.0, 1.0], [5.0, 3.0])
    one, two = nn.Neuron(2, seed=0).state_dict(), nn.Neuron(2, seed=1).state_dict()
    model = nn.Neuron(2)
    for place in places_of(lambda: model.load_state_dict(two)):
        model.load_state_dict(one)
        Interrupter(place).run(lambda: model.load_state_dict(two))
        assert model.state_dict() in (one, two)


def test_control_c_while_a_no_grad_context_is_entered_leaves_it():
    for place in places_of(lambda: no_grad().__enter__()):
        Interrupter(place).run(lambda: no_grad().__enter__())
        assert len(modes.open_blocks) == len(no_grad.open_here())
        no_grad.reopen(())


def test_control_c_while_a_training_begins_or_ends_leaves_none_and_costs_nothing_learned():
    pytest.importorskip("numpy")
    model = nn.MLP(2, [3], seed=0)
    descent = OPTIMIZERS["adam"](model)
    step = compile_step(model, losses.mse, (DATA.X[0], [0.5] * 3))
    start = numbers(model, descent)

    def begun():
        descent.restore(start[1])
        return step.training(descent)

    def learning():
        training = begun().__enter__()
        training(DATA.X, [[0.5] * 3] * 12)
        return training

    learning().__exit__(None)
    learned = numbers(model, descent)
    for place in places_of(begun().__enter__):
        Interrupter(place).run(begun().__enter__)
        modes.waiting.reopen(())  # as `fit` does
        assert_nothing_is_left_switched_off()
        step.plan.learns = None
    for place in places_of(learning().close):
        training = learning()
        Interrupter(place).run(training.close)
        training.close()  # it may not have begun
        assert_nothing_is_left_switched_off()
        assert numbers(model, descent) == learned
    assert place > 20


def test_control_c_in_a_function_that_is_differentiated_leaves_no_variables():
    def work():
        return value_and_grad(lambda x: x * x)(3.0)

    for place in places_of(work):
        Interrupter(place).run(work)
        assert not gradients._variables


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of generators
def test_control_c_in_gradcheck_puts_the_inputs_back():
    x = Value(0.3)

    def check():
        gradcheck(lambda x: x * x, [x], second=False)

    for place in places_of(check):
        Interrupter(place).run(check)
        assert x.data == 0.3


def test_control_c_where_the_collector_is_paused_lets_it_go_on():
    def work():
        with modes.paused():
            len("")

    for place in places_of(work):
        Interrupter(place).run(work)
        assert (gc.isenabled(), modes._pauses) == (True, 0)


# --- saving ---------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size):
    """A disk that is full after so many bytes of a file: the write fails half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def picture():
    y = Value(2.0, "x") * Value(3.0, "w")
    y.backward()
    return draw(y)


class _Svg:
    """Saves what a renderer would give: where none is installed, saving is to be tested too."""

    def __init__(self):
        self.drawing = picture()
        self.drawing.svg = "<svg>" + "·" * 5000 + "</svg>"

    def save(self, path):
        self.drawing.save(path)


SAVED = {
    "model.json": lambda: nn.MLP(2, [16, 1], seed=0),
    "graph.dot": picture,
    "graph.svg": _Svg,
}


def written(name, folder):
    path = folder / name
    SAVED[name]().save(path)
    return path, path.read_bytes()


@pytest.mark.parametrize("name", SAVED)
def test_a_disk_that_fills_up_while_saving_keeps_the_old_file_and_leaves_no_other(name, tmp_path):
    path, content = written(name, tmp_path)
    size = len(content)
    path.write_bytes(b"old")
    for room in sorted({0, 1, size // 3, size // 2, size - 1}):
        with files_of_at_most(room), pytest.raises(OSError, match="large") as caught:
            SAVED[name]().save(path)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == [name]
    with files_of_at_most(size):
        SAVED[name]().save(path)
    assert path.read_bytes() == content


def test_a_page_of_steps_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("micrograd_like.views.drawing.rendered", lambda *_: b"<svg></svg>")
    page = player(Value(2.0, "x") * 3.0)
    path = tmp_path / "steps.html"
    path.write_text("old")
    for room in (0, 1000, len(page.html) // 2):
        with files_of_at_most(room), pytest.raises(OSError, match="large"):
            page.save(path)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == [path.name]


def test_a_name_as_long_as_the_file_system_allows_can_be_saved_to(tmp_path):
    path = tmp_path / ("m" * 255)
    nn.Neuron(1).save(path)
    assert os.listdir(tmp_path) == [path.name]


def test_where_nothing_can_be_written_the_error_names_the_file(tmp_path):
    path = tmp_path / "model.json"
    nn.Neuron(1).save(path)
    before = path.read_bytes()
    tmp_path.chmod(0o555)
    user = os.geteuid()
    parents = [p for p in tmp_path.parents if p.stat().st_uid == user and p != Path("/")]
    modes = [p.stat().st_mode for p in parents]
    try:
        if user == 0:  # whom permissions do not stop
            for p in parents:
                p.chmod(0o755)
            os.seteuid(65534)
        with pytest.raises(PermissionError) as caught:
            nn.Neuron(1).save(path)
    finally:
        os.seteuid(user)
        for p, mode in zip(parents, modes, strict=True):
            p.chmod(mode)
        tmp_path.chmod(0o755)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_device_is_an_error():
    with pytest.raises(OSError, match="space") as caught:
        nn.MLP(2, [16, 1]).save("/dev/full")
    assert caught.value.errno == errno.ENOSPC


def test_control_c_while_saving_leaves_the_old_or_the_new_file_and_no_other(tmp_path):
    path = tmp_path / "model.json"
    models = [nn.Neuron(2, seed=0), nn.Neuron(2, seed=1)]
    contents = []
    for model in models:
        model.save(path)
        contents.append(path.read_bytes())
    found = set()
    places = places_of(lambda: models[1].save(path))
    for place in [*random.Random(0).sample(places, 150), *places[-9:]]:  # the file is new at last
        models[0].save(path)
        Interrupter(place).run(lambda: models[1].save(path))
        found.add(contents.index(path.read_bytes()))
        assert os.listdir(tmp_path) == [path.name]
    assert found == {0, 1}


SAVING_FOR_EVER = """
from micrograd_like import nn
models = [nn.MLP(2, [40, 40, 1], seed=seed) for seed in (0, 1)]
print("ready", flush=True)
while True:
    for model in models:
        model.save("model.json")
"""


def test_a_process_killed_while_saving_leaves_a_file_that_loads(tmp_path):
    path = tmp_path / "model.json"
    models = [nn.MLP(2, [40, 40, 1], seed=seed) for seed in (0, 1)]
    states = [model.state_dict() for model in models]
    models[0].save(path)
    loaded = nn.MLP(2, [40, 40, 1])
    rng = random.Random(0)
    for _ in range(int(os.environ.get("KILLS", "5"))):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING_FOR_EVER], cwd=tmp_path, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        loaded.load(path)
        assert loaded.state_dict() in states
        others = set(os.listdir(tmp_path)) - {path.name}
        assert all(re.fullmatch(r"\.micrograd_like-[0-9a-f]{8}\.tmp", name) for name in others)
    models[0].save(path)  # what they left is in nobody's way
    loaded.load(path)
    assert loaded.state_dict() == states[0]


# --- the command line -----------------------------------------------------------------------------


def test_train_on_a_disk_that_fills_up_is_one_line_and_no_file_is_cut_short(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("matplotlib")  # the pictures are the large files
    monkeypatch.chdir(tmp_path)
    command = ["train", "moons", "--epochs", "1", "--hidden", "2", "--out", "out"]
    assert cli.main(command) == 0
    whole = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    sizes = sorted(map(len, whole.values()))
    for room in (40, sizes[len(sizes) // 2] + 1):
        assert cli.main([*command, "--force", "--seed", "1"]) == 0
        old = {path.name: path.read_bytes() for path in Path("out").iterdir()}
        capsys.readouterr()
        with files_of_at_most(room):
            assert cli.main([*command, "--force"]) == 2
        out, err = capsys.readouterr()
        assert re.fullmatch(r"micrograd-like: out/[\w.]+: File too large\n", err)
        assert "accuracy" not in out.splitlines()[-1] or "epoch" in out.splitlines()[-1]
        for path in Path("out").iterdir():
            assert path.read_bytes() in (old[path.name], whole[path.name]), path
        assert Path("out/model.json").exists()


def test_control_c_in_train_is_one_line_or_a_shorter_training(tmp_path):
    rng = random.Random(0)
    command = [sys.executable, "-m", "micrograd_like", "train", "moons", "--epochs", "200",
               "--hidden", "4", "--out", str(tmp_path), "--force"]  # fmt: skip
    for _ in range(int(os.environ.get("KILLS", "2"))):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.4))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert "Traceback" not in err
        if process.returncode == 130:
            assert re.fullmatch(r"micrograd-like: interrupted.*\n", err)
        else:
            assert (process.returncode, err) == (0, "")
            assert "interrupted after" in out
            json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


STREAMS = [">&-", "2>&-", "> /dev/full", "2> /dev/full", "> /dev/full 2> /dev/full"]
COMMANDS = ["eval 2+3", "--help", "predict none.json none.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_streams_that_are_closed_or_full_are_no_traceback(command, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    environment.pop("PYTHONUNBUFFERED", None)
    program = f"{sys.executable} -m micrograd_like {command}"
    for streams in STREAMS:
        done = subprocess.run(
            ["sh", "-c", f"{program} {streams}"], capture_output=True, text=True, cwd=tmp_path,
            env=environment, check=False,
        )  # fmt: skip
        refused = "predict" in command or "> /dev/full" in streams.replace("2> /dev/full", "")
        assert done.returncode == (2 if refused else 0), (streams, done)
        assert done.stderr.count("\n") == (refused and "2>" not in streams), (streams, done)
        if "2>" not in streams and refused:
            assert done.stderr.startswith("micrograd-like: ")


def test_interrupts_are_found_where_they_do_harm():
    """The interrupter would find a context that Ctrl-C leaves half-entered."""
    state = {"entered": 0}

    def half():
        state["entered"] += 1
        len("")
        state["entered"] -= 1

    for place in itertools.islice(places_of(half), 4):
        Interrupter(place).run(half)
    assert state["entered"] > 0
