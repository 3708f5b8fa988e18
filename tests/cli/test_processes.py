"""train in several processes: the weights of one, and a clear end where one is missing or lost."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from micrograd_like.cli import main

pytest.importorskip("jax", reason="needs the extra jax")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends signals")

LISTENERS = pytest.mark.skipif(
    not os.path.exists("/proc/net/tcp6"), reason="needs /proc/net, to see who listens where"
)
BOUND = 120  # seconds: a busy machine is no failure, a hang is
OPTIONS = ["--engine", "jax", "--hidden", "4", "--batch-size", "7", "--timeout", "30"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Processes:
    """Commands that train together, each with its options after those that all have."""

    def __init__(self, folder, data, *options, count=2, each=None, only=None, port=None):
        self.out = folder
        self.where = where = f"127.0.0.1:{port or free_port()}"
        self.all = [
            subprocess.Popen(
                [sys.executable, "-m", "micrograd_like", "train", str(data), *OPTIONS, *options,
                 "--out", str(folder), "--coordinator", where, "--processes", str(count),
                 "--process-id", str(i), *(each or {}).get(i, [])],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for i in range(count) if only in (None, i)
        ]  # fmt: skip

    def ends(self):
        """(exit status, lines of stdout, lines of stderr) of each, within bounded time."""
        told = [process.communicate(timeout=BOUND) for process in self.all]
        return [
            (process.returncode, out.splitlines(), error.splitlines())
            for process, (out, error) in zip(self.all, told, strict=True)
        ]


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory):
    """What XLA has compiled for one process is read by the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


def weights(folder):
    return json.loads((folder / "model.json").read_text())["parameters"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    pytest.importorskip("pandas", reason="needs the extra data")
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "points.csv"
    rows = [(rng.uniform(-1, 1), rng.uniform(-1, 1)) for _ in range(37)]
    lines = [f"{a},{b},{'in' if a * a + b * b < 0.5 else 'out'}" for a, b in rows]
    path.write_text("\n".join(["a,b,label", *lines]) + "\n")
    return path


@pytest.fixture
def start(table, tmp_path):
    """A function that starts processes, which end with the test; they write to `out`."""
    started = []

    def call(*options, **how):
        started.append(Processes(tmp_path / "out", table, *options, **how))
        return started[-1]

    yield call
    for process in (process for run in started for process in run.all):
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def running(table, tmp_path_factory):
    """All of them at once: most of their time they wait for one another, and for XLA."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "missing").mkdir()
    (folder / "missing" / "model.json").write_text("untouched")
    runs = {
        "three": Processes(folder / "three", table, "--epochs", "3", count=3),
        "differing": Processes(folder / "differing", table, each={1: ["--hidden", "5"]}),
        "missing": Processes(folder / "missing", table, "--timeout", "2", only=1),
        "first lost": Processes(folder / "first", table, "--epochs", "1000000"),
        "interrupted": Processes(folder / "interrupted", table, "--epochs", "1000000", count=1),
        "second lost": Processes(folder / "second", table, "--epochs", "1000000"),
        "numbers": Processes(folder / "numbers", table, each={1: ["--processes", "3"]}),
    }
    yield runs
    for run in runs.values():
        for process in run.all:
            process.kill()
            process.communicate()


def test_where_a_process_is_lost_the_others_say_so_and_the_last_model_is_whole(running):
    runs = [running["first lost"], running["second lost"]]
    start = time.monotonic()
    waiting = [0, 1]
    while waiting:  # for a first epoch, since those that go on keep the machine busy
        assert time.monotonic() - start < BOUND
        for lost in list(waiting):
            assert all(process.poll() is None for process in runs[lost].all)
            if (runs[lost].out / "model.json").exists():
                runs[lost].all[lost].send_signal(signal.SIGKILL)
                waiting.remove(lost)
        time.sleep(0.1)
    for lost, run in enumerate(runs):
        status, _, error = run.ends()[1 - lost]
        assert (status, len(error)) == (2, 1), "\n".join(error)
        assert error[0].startswith(f"micrograd-like: process {1 - lost} has lost")
        assert len(weights(run.out)) == 4 * 3 + 2 * 5


def test_ctrl_c_reaches_the_training_which_ends_with_a_whole_model(running):
    run = running["interrupted"]
    start = time.monotonic()
    while not (run.out / "model.json").exists():
        assert run.all[0].poll() is None
        assert time.monotonic() - start < BOUND
        time.sleep(0.1)
    run.all[0].send_signal(signal.SIGINT)
    ((status, out, error),) = run.ends()
    assert (status, error) == (0, [])
    assert any(line.startswith("interrupted after ") for line in out)
    assert len(weights(run.out)) == 4 * 3 + 2 * 5


def until(condition, *processes):
    start = time.monotonic()
    while not condition():
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() - start < BOUND
        time.sleep(0.1)


@pytest.mark.parametrize("who", [0, 1])
def test_ctrl_c_in_one_of_two_ends_both_with_a_line_each(start, who):
    run = start("--epochs", "1000000")
    until((run.out / "model.json").exists, *run.all)
    run.all[who].send_signal(signal.SIGINT)
    ends = run.ends()
    status, out, error = ends[who]
    if who == 0:  # which has written the model, as a process does that is alone
        assert (status, error) == (0, [])
        assert any(line.startswith("interrupted after ") for line in out)
    else:
        assert (status, error) == (130, ["micrograd-like: interrupted"])
    status, _, error = ends[1 - who]
    assert (status, len(error)) == (2, 1), "\n".join(error)
    assert f"process {1 - who} has lost" in error[0]
    assert len(weights(run.out)) == 4 * 3 + 2 * 5


@LISTENERS
def test_ctrl_c_while_the_others_are_waited_for_is_heard(start):
    run = start("--timeout", "600", only=0)
    until(lambda: listeners(run.where), *run.all)
    run.all[0].send_signal(signal.SIGINT)
    assert run.ends() == [(130, [], ["micrograd-like: interrupted"])]


def test_what_one_process_refuses_ends_the_others_too(start):
    run = start(each={1: ["--label", "nothing"]})
    (first, _, lost), (second, _, refused) = run.ends()
    assert (first, len(lost), second, len(refused)) == (2, 1, 2, 1)
    assert "process 0 has lost" in lost[0]
    assert "no column 'nothing'" in refused[0]


def test_other_numbers_of_processes_are_told_apart(running):
    for status, _, error in running["numbers"].ends():
        assert (status, len(error)) == (2, 1), "\n".join(error)
        assert "process 1 differs from process 0 in its --processes" in error[0]


def test_one_that_the_others_do_not_expect_is_turned_away(start):
    run = start("--epochs", "1000000", count=1)
    until((run.out / "model.json").exists, *run.all)
    port = run.where.rpartition(":")[2]
    late = start(only=1, port=port)
    ((status, _, error),) = late.ends()
    assert (status, len(error)) == (2, 1), "\n".join(error)
    assert f"process 1 was turned away by the coordinator at {run.where}" in error[0]


def listeners(where):
    """The addresses, in hexadecimal, that are listened to at the port."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in open(f"/proc/net/{name}")]
    port = int(where.rpartition(":")[2])
    places = [row[1].split(":") for row in rows if row[3] == "0A"]
    return [address for address, number in places if int(number, 16) == port]


@LISTENERS
def test_the_coordinator_listens_at_the_address_given_alone(start):
    run = start(only=0)
    until(lambda: listeners(run.where), *run.all)
    assert [address[-8:] for address in listeners(run.where)] == [
        "0100007F"
    ]  # ::ffff:127.0.0.1 is the same


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no.such.host.invalid", "a..b"])
def test_an_address_where_process_0_cannot_listen_is_one_line(host, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"{host}:{taken.getsockname()[1]}"
        options = ["--engine", "jax", "--processes", "2", "--process-id", "0"]
        assert main(["train", "moons", "--coordinator", where, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"micrograd-like: process 0 cannot listen at {where}: ")
    assert error.count("\n") == 1


def test_no_code_that_lies_beside_the_data_runs(table, tmp_path):
    (tmp_path / "micrograd_like").mkdir()
    for name in ("micrograd_like/__init__", "micrograd_like/__main__", "csv", "jax", "signal"):
        (tmp_path / f"{name}.py").write_text("open('it ran', 'w').close()\n")
    command = f"import sys; sys.path = {[p for p in sys.path if p]}; import micrograd_like.cli as c"
    options = ["--engine", "jax", "--coordinator", f"127.0.0.1:{free_port()}", "--processes", "1",
               "--process-id", "0", "--epochs", "1", "--out", "out"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{command}; sys.exit(c.main())", "train", table, *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=BOUND,
        env={name: x for name, x in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "model.json").exists()
    assert not (tmp_path / "it ran").exists()


def test_the_training_goes_on_when_nobody_reads_what_it_prints(start):
    run = start("--epochs", "8")
    for process in run.all:
        process.stdout.readline()
        process.stdout.close()
    assert [(process.wait(BOUND), process.stderr.read()) for process in run.all] == [(0, "")] * 2
    content = json.loads((run.out / "model.json").read_text())
    assert len(content["training"]["history"]["loss"]) == 8


def test_processes_learn_the_weights_of_one_that_is_alone(running, table, tmp_path):
    ends = running["three"].ends()
    assert [(status, error) for status, _, error in ends] == [(0, [])] * 3
    assert main(["train", str(table), *OPTIONS, "--engine", "eager", "--epochs", "3",
                 "--out", str(tmp_path)]) == 0  # fmt: skip
    assert weights(running["three"].out) == pytest.approx(weights(tmp_path), rel=0.0, abs=1e-9)
    last = {out[-1] for _, out, _ in ends}
    assert len(last) == 1
    assert last.pop().startswith("test accuracy")
    assert [any(line.startswith("wrote model.json") for line in out) for _, out, _ in ends] == [
        i == 0 for i in range(3)
    ]


def test_processes_with_different_models_are_told_so(running):
    for status, _, error in running["differing"].ends():
        assert (status, len(error)) == (2, 1), "\n".join(error)
        assert "process 1 differs from process 0 in its model" in error[0]
    assert not (running["differing"].out / "model.json").exists()


def test_where_the_coordinator_is_not_there_the_command_says_so(running):
    ((status, _, error),) = running["missing"].ends()
    assert status == 2
    assert len(error) == 1
    assert "process 1 waited 2 s for the coordinator at 127.0.0.1:" in error[0]
    assert (running["missing"].out / "model.json").read_text() == "untouched"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--processes", "2"], "need --engine jax, --coordinator, --processes and --process-id"),
        (["--coordinator", "here", "--processes", "2", "--process-id", "0"], "is HOST:PORT"),
        (["--coordinator", "h:1", "--processes", "0", "--process-id", "0"], "is at least 1, not 0"),
        (["--coordinator", "h:1", "--processes", "2", "--process-id", "2"], "one of 0 ... 1"),
        (["--coordinator", "h:1", "--processes", "2", "--process-id", "-1"], "one of 0 ... 1"),
        (["--coordinator", "h:1", "--processes", "1", "--process-id", "0", "--timeout", "0"],
         "--timeout is at least 1"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options, problem, capsys):
    assert main(["train", "moons", "--engine", "jax", *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
