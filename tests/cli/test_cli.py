"""The commands: their files, and refusals in one line with exit status 2."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest

from micrograd_like import cli, nn, optim

ROWS = [(x, y, "in" if x * x + y * y < 5 else "out") for x in range(-3, 4) for y in range(-3, 4)]
CSV = "x,y,kind\n" + "".join(f"{x},{y},{kind}\n" for x, y, kind in ROWS)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    def call(*argv):
        try:
            status = cli.main(list(argv))
        except SystemExit as exit_:
            status = exit_.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def files():
    return sorted(
        os.path.relpath(os.path.join(folder, name))
        for folder, _, names in os.walk(".")
        for name in names
    )


def assert_refused(result, says, before):
    status, out, err = result
    assert status == 2
    assert "accuracy" not in out
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert files() == before


def test_training_writes_model_history_and_pictures_and_ends_with_the_accuracy(run):
    pytest.importorskip("matplotlib")
    status, out, err = run("train", "moons", "--epochs", "30", "--out", "here")
    assert (status, err) == (0, "")
    last = out.splitlines()[-1]
    assert re.fullmatch(r"test accuracy \d+\.\d %", last)
    assert float(last.split()[2]) > 85
    names = ["boundary.png", "confusion.png", "history.csv", "loss.png", "model.json"]
    assert files() == [os.path.join("here", name) for name in names]
    for name in names:
        if name.endswith("png"):
            with open(os.path.join("here", name), "rb") as file:
                assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    with open("here/history.csv", newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert len(history) == 30
    assert float(history[-1]["loss"]) < float(history[0]["loss"])


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "hinge", "binary_cross_entropy", "binary_cross_entropy_with_logits"]
)
def test_every_loss_trains_and_its_model_predicts(run, loss):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    status, out, err = run("train", "data.csv", "--loss", loss, "--epochs", "80", "--hidden", "8",
                           "--activation", "relu", "--lr", "0.03")  # fmt: skip
    assert (status, err) == (0, "")
    assert float(out.split()[-2]) >= 80.0
    status, out, err = run("predict", "runs/data/model.json", "data.csv")
    assert status == 0
    table = list(csv.DictReader(out.splitlines()))
    assert [int(row["row"]) for row in table] == list(range(2, len(ROWS) + 2))
    right = sum(row["prediction"] == kind for row, (_, _, kind) in zip(table, ROWS, strict=True))
    assert right / len(ROWS) > 0.85
    assert err == f"accuracy {100 * right / len(ROWS):.1f} % of {len(ROWS)} labelled rows\n"


def test_predict_finds_its_columns_by_name_and_needs_no_label(run):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    run("train", "data.csv", "--epochs", "30", "--hidden", "8")
    _, with_label, _ = run("predict", "runs/data/model.json", "data.csv")
    with open("other.csv", "w", encoding="utf-8") as file:
        file.write("note,y,x\n" + "".join(f"hello,{y},{x}\n" for x, y, _ in ROWS))
    status, out, err = run("predict", "runs/data/model.json", "other.csv")
    assert (status, out, err) == (0, with_label, "")


def test_equal_seeds_write_equal_files(run):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run("train", "circles", "--epochs", "2", "--seed", seed, "--out", out)
    models = [open(f"{out}/model.json", encoding="utf-8").read() for out in "abc"]
    assert models[0] == models[1] != models[2]


def test_without_matplotlib_training_says_which_extra_brings_the_pictures(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    status, out, err = run("train", "moons", "--epochs", "1", "--out", "here")
    assert (status, err) == (0, "")
    assert "micrograd_like[plots]" in out
    assert files() == [os.path.join("here", "history.csv"), os.path.join("here", "model.json")]


def test_without_a_command_it_trains_the_moons_and_says_what_to_try_next(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    accuracies = [float(a) for a in re.findall(r"accuracy +(\d+\.\d) %", out)]
    assert accuracies[-1] >= 98.0
    assert "░" in out
    assert "train digits" in out
    assert files() == []


BAD_OPTIONS = {
    "no such data": (["train", "nothing"], "'nothing' is neither moons"),
    "no such file": (["train", "nothing.csv"], "nothing.csv: No such file"),
    "no data": (["train"], "DATA"),
    "no such command": (["fly"], "fly"),
    "no such option": (["train", "moons", "--fly"], "--fly"),
    "epochs": (["train", "moons", "--epochs", "0"], "epochs"),
    "epochs in words": (["train", "moons", "--epochs", "many"], "many"),
    "batch size": (["train", "moons", "--batch-size", "-1"], "batch_size"),
    "learning rate": (["train", "moons", "--lr", "-0.1"], "lr"),
    "test fraction": (["train", "moons", "--test-fraction", "1"], "fraction"),
    "hidden": (["train", "moons", "--hidden", "16,x"], "widths"),
    "no hidden": (["train", "moons", "--hidden", "0"], "widths"),
    "activation": (["train", "moons", "--activation", "magic"], "magic"),
    "binary activation": (["train", "moons", "--activation", "add"], "more than one argument"),
    "loss": (["train", "moons", "--loss", "magic"], "magic"),
    "label": (["train", "moons", "--label", "x"], "--label is for CSV"),
    "divergence": (["train", "moons", "--lr", "1e300", "--activation", "relu"], "epoch 1"),
    "no model": (["predict", "nothing.json", "nothing.csv"], "nothing.json: No such file"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_wrong_option_is_one_line_and_status_2_and_leaves_no_files(run, name):
    argv, says = BAD_OPTIONS[name]
    assert_refused(run(*argv), says, [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("a,b\n1,x\n1\n", "row 3"),
        ("a,b\n1,x\nfoo,y\n", "row 3, column 'a'"),
        ("a,b\n,x\n1,y\n", "row 2, column 'a'"),
        ("a,b\n1,x\n2,x\n", "column 'b'"),
        ('a,b\n1,"x\ny"\nz,w\n', "row 4, column 'a'"),
    ],
)
def test_a_wrong_csv_is_one_line_naming_row_and_column(run, content, says):
    with open("data.csv", "w", encoding="utf-8", newline="") as file:
        file.write(content)
    assert_refused(run("train", "data.csv"), says, ["data.csv"])


def test_an_output_folder_that_is_a_file_is_refused_before_the_work(run):
    open("taken", "w", encoding="utf-8").close()
    assert_refused(run("train", "moons", "--out", "taken"), "taken is a file", ["taken"])


def test_a_loss_for_two_classes_refuses_more(run):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write("x,kind\n" + "1,a\n2,b\n3,c\n" * 4)
    assert_refused(run("train", "data.csv", "--loss", "hinge"), "two classes", ["data.csv"])


def test_a_model_file_that_does_not_add_up_is_refused(run, tmp_path):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    run("train", "data.csv", "--epochs", "1", "--hidden", "2", "--out", "here")
    content = json.loads((tmp_path / "here/model.json").read_text(encoding="utf-8"))
    before = files()

    def with_(**changes):
        changed = json.loads(json.dumps(content))
        for key, value in changes.items():
            place, _, name = key.partition("__")
            changed[place][name] = value
        return changed

    bad = [
        with_(model__widths=[2, 10**9, 2]),
        with_(model__widths=[]),
        with_(model__widths="222"),
        with_(model__widths=[2, 0, 2]),
        with_(model__activation="no_such_op"),
        with_(model__activation="add"),
        with_(classifier__loss="no_such_loss"),
        with_(classifier__classes=["a"]),
        with_(classifier__features=["x"]),
        with_(classifier__scale=[0.0, 1.0]),
        with_(classifier__shift=["a", "b"]),
        with_(classifier__classes="ab"),
        {**content, "classifier": None},
        {**content, "format": "micrograd_like/0"},
        {"format": content["format"], "parameters": content["parameters"]},
    ]
    for i, changed in enumerate(bad):
        (tmp_path / "here/model.json").write_text(json.dumps(changed), encoding="utf-8")
        assert_refused(run("predict", "here/model.json", "data.csv"), ".", before), i
    nn.MLP(2, [2, 2]).save("here/model.json")
    assert_refused(run("predict", "here/model.json", "data.csv"), "no classifier", before)


def test_predict_names_a_missing_column(run):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    run("train", "data.csv", "--epochs", "1", "--out", "here")
    with open("other.csv", "w", encoding="utf-8") as file:
        file.write("x,z\n1,2\n")
    result = run("predict", "here/model.json", "other.csv")
    assert_refused(result, "no column 'y'", files())


def test_python_m_micrograd_like_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "micrograd_like", "train", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("micrograd-like: 'nothing' is neither")
    assert result.stderr.count("\n") == 1


def test_digits_reach_95_percent(run):
    pytest.importorskip("sklearn")
    status, out, _ = run("train", "digits", "--epochs", "4", "--hidden", "24", "--out", "here")
    assert status == 0
    assert "64 features, 10 classes, 1438 examples to train on and 359 to test on" in out
    assert float(out.split()[-2]) >= 95.0


def test_predict_labels_rows_without_a_label_and_scores_the_others(run):
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    run("train", "data.csv", "--epochs", "1", "--hidden", "2")
    for blank, said in ((5, f" of {len(ROWS) - 5} labelled rows\n"), (len(ROWS), "")):
        lines = CSV.splitlines()
        lines[1 : blank + 1] = [line.rpartition(",")[0] + "," for line in lines[1 : blank + 1]]
        with open("some.csv", "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        status, out, err = run("predict", "runs/data/model.json", "some.csv")
        assert status == 0
        assert out.count("\n") == len(ROWS) + 1
        assert err.endswith(said) if said else err == ""


def test_labels_and_columns_are_text_in_the_pictures_too(run):
    pytest.importorskip("matplotlib")
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(
            "$x_{,$y^^$,kind\n" + CSV.partition("\n")[2].replace("in", "_$\\frac{" + "日" * 99)
        )
    status, _out, err = run("train", "data.csv", "--epochs", "1", "--out", "here")
    assert (status, err) == (0, "")
    assert os.path.exists("here/boundary.png")


def test_a_picture_of_an_earlier_run_does_not_stay(run):
    pytest.importorskip("matplotlib")
    for header, extra in (("x,y,kind", ""), ("x,y,z,kind", "1,")):
        with open("data.csv", "w", encoding="utf-8") as file:
            file.write(header + "\n" + "".join(f"{x},{y},{extra}{k}\n" for x, y, k in ROWS))
        assert run("train", "data.csv", "--epochs", "1", "--out", "here")[0] == 0
        assert os.path.exists("here/boundary.png") == (not extra)


@pytest.mark.parametrize("command", ["show", "train"])
@pytest.mark.parametrize("stdout", ["ascii", "nobody reads"])
def test_a_stdout_that_cannot_show_or_take_it_all_is_no_failure(command, stdout, tmp_path):
    argv = [] if command == "show" else ["train", "moons", "--epochs", "2", "--out", "here"]
    process = subprocess.Popen(
        [sys.executable, "-m", "micrograd_like", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    if stdout == "nobody reads":
        process.stdout.close()
        err = process.stderr.read()
        process.wait()
    else:
        _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert os.path.exists("here/model.json") == (command == "train")


# --- train --resume -------------------------------------------------------------------------------


@pytest.fixture
def train(run, monkeypatch):
    """`train data.csv`, without pictures, which take longer than the training."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with open("data.csv", "w", encoding="utf-8") as file:
        file.write(CSV)
    return lambda *argv: run("train", "data.csv", "--hidden", "3", *argv)


def written(folder):
    return [open(f"{folder}/{name}", encoding="utf-8").read()
            for name in ("model.json", "history.csv")]  # fmt: skip


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_epochs_in_two_parts_write_what_they_write_in_one(train, engine):
    if engine == "compiled":
        pytest.importorskip("numpy")
    assert train("--epochs", "5", "--engine", engine, "--out", "whole")[0] == 0
    assert train("--epochs", "2", "--engine", engine, "--out", "parts")[0] == 0
    assert written("parts") != written("whole")
    status, out, err = train("--epochs", "5", "--engine", engine, "--out", "parts", "--resume")
    assert (status, err) == (0, "")
    assert written("parts") == written("whole")
    assert train("--epochs", "5", "--engine", engine, "--out", "parts", "--resume")[1] == (
        "".join(line for line in out.splitlines(True) if not line.startswith("epoch"))
    )
    assert written("parts") == written("whole")


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_end_in_the_middle_leaves_the_last_whole_epoch_to_resume(train, end, monkeypatch):
    train("--epochs", "4", "--out", "whole")
    train("--epochs", "2", "--out", "two")
    step = optim.Adam.step

    def cut(self):
        step(self)
        if self._memory[0] == 5:  # of two an epoch
            raise end

    with monkeypatch.context() as patch:
        patch.setattr(optim.Adam, "step", cut)
        status, out, _ = train("--epochs", "4", "--out", "here")
    if end is KeyboardInterrupt:
        assert status == 0
        assert "interrupted after 2 of 4 epochs" in out
        accuracy = re.search("test accuracy .*", out)[0]
        assert accuracy in train("--epochs", "2", "--out", "two", "--resume")[1]
        assert written("here") == written("two")  # what it says is of the model that it wrote
    assert files().count(os.path.join("here", "model.json")) == 1
    assert not [name for name in files() if name.endswith(".tmp")]
    assert written("two")[0] == open("here/model.json", encoding="utf-8").read()
    train("--epochs", "4", "--out", "here", "--resume")
    assert written("here") == written("whole")


def test_an_interrupt_while_the_first_model_is_written_still_leaves_it(train, monkeypatch):
    replace, calls = os.replace, []

    def interrupted(*paths):
        calls.append(paths)
        if len(calls) == 1:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    status, out, _ = train("--epochs", "3", "--out", "here")
    assert status == 0
    assert "interrupted after 1 of 3 epochs" in out
    train("--epochs", "1", "--out", "one")
    assert written("here") == written("one")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "nowhere"], "nowhere/model.json: No such file"),
        (["--seed", "1"], "seed was 0, is 1"),
        (["--hidden", "4"], r"widths was \[2, 3, 2\], is \[2, 4, 2\]"),
        (["--activation", "relu"], "activation was 'tanh', is 'relu'"),
        (["--lr", "0.02"], "lr was 0.01, is 0.02"),
        (["--batch-size", "8"], "batch_size was 32, is 8"),
        (["--epochs", "1"], "has 2 epochs"),
        (["--test-fraction", "0.3"], "examples was 39, is 34"),
        (["--loss", "hinge"], r"widths was \[2, 3, 2\], is \[2, 3, 1\]"),
    ],
)
def test_resuming_something_else_is_refused_and_changes_no_file(train, options, says):
    train("--epochs", "2", "--out", "here")
    before, names = written("here"), files()
    assert_refused(train("--out", "here", "--epochs", "4", "--resume", *options), says, names)
    assert written("here") == before


def test_resuming_a_file_of_a_model_alone_is_refused(train):
    train("--epochs", "1", "--out", "here")
    with open("here/model.json", encoding="utf-8") as file:
        content = json.load(file)
    del content["training"]
    with open("here/model.json", "w", encoding="utf-8") as file:
        json.dump(content, file)
    result = train("--out", "here", "--epochs", "4", "--resume")
    assert_refused(result, "no training to go on from", files())


# --- eval, draw, step -----------------------------------------------------------------------------

NEURON = ("tanh(w1*x1 + w2*x2 + b)", "w1=-3", "w2=1", "x1=2", "x2=0", "b=6.8813735870195432")


def assert_refused_at(result, says, place):
    """Three lines: the message, the expression, and a caret in the column of `place`."""
    status, out, err = result
    assert (status, out) == (2, "")
    message, shown, caret = err.rstrip("\n").split("\n")
    assert re.match(f"micrograd-like: .*{says}", message), err
    assert shown[len(caret) - 1 :].startswith(place), err
    assert caret.strip() == "^"
    assert files() == []


def test_eval_prints_every_node_and_ends_with_the_value(run):
    status, out, err = run("eval", *NEURON)
    assert (status, err) == (0, "")
    header, *rows, last = out.splitlines()
    assert header.split() == ["node", "formula", "value", "gradient"]
    assert {len(row) for row in rows} == {len(header)}
    cells = {row.split()[0]: row.split() for row in rows}
    assert list(cells) == ["w1", "x1", "v1", "w2", "x2", "v2", "v3", "b", "v4", "v5"]
    assert cells["v1"][1:3] == ["w1·x1", "-6.0"]
    assert cells["v5"][1:2] == ["tanh(v4)"]
    assert [float(cells[name][-1]) for name in ("w1", "w2", "x1", "x2", "b")] == pytest.approx(
        [1.0, 0.0, -1.5, 0.5, 0.5]
    )
    assert last == f"value = {float(cells['v5'][2])!r}"


def test_eval_of_numbers_alone_prints_the_value(run):
    assert run("eval", "2+3") == (0, "value = 5.0\n", "")
    assert json.loads(run("eval", "2+3", "--json")[1])["gradients"] == {}


def test_eval_prints_strict_json(run):
    status, out, err = run("eval", "--json", "exp(α) - 2*β", "α=1000", "β=0.5")
    assert (status, err) == (0, "")
    assert out.isascii()
    report = json.loads(out, parse_constant=pytest.fail)
    assert report["expression"] == "exp(α) - 2*β"
    assert (report["value"], report["gradients"]) == ("inf", {"α": "inf", "β": -2.0})
    assert [node["name"] for node in report["nodes"]] == ["α", "v1", "β", "v2", "v3"]
    assert report["nodes"][2] == dict(
        name="β", op=None, formula=None, value=0.5, gradient=-2.0, operands=[]
    )
    assert report["nodes"][3] == dict(
        name="v2", op="mul", formula="2·β", value=1.0, gradient=-1.0, operands=[2.0, "β"]
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["-x*o", "x=3", "o=2"],
        ["--", "-x*o", "x=3", "o=2"],
        ["-o*x", "o=3", "x=2"],
        ["-(o*x)", "--json", "o=3", "x=2"],
        ["--json", "-x * o", "x=3", "o=2"],
        ["-x*o", "x=3", "--json", "o=2"],
        ["--json", "--", "-x*o", "x=3", "o=2"],
        ["--2*-x*o/2", "x=3", "o=2"],
    ],
)
def test_an_expression_may_begin_with_a_minus_and_options_may_stand_anywhere(run, argv):
    status, out, err = run("eval", *argv)
    assert (status, err) == (0, "")
    value = json.loads(out)["value"] if "--json" in argv else float(out.split()[-1])
    assert value == -6.0


def test_an_expression_that_begins_like_an_option_is_refused_unless_it_follows_two_dashes(run):
    assert_refused(run("eval", "-h*x", "h=3", "x=2"), "-h/--help: ignored", [])
    assert_refused_at(run("draw", "-o*x", "o=3", "x=2"), "not part of an expression", "=3")
    assert run("eval", "--", "-h*x", "h=3", "x=2")[1].endswith("value = -6.0\n")
    assert run("draw", "--", "-o*x", "o=3", "x=2")[1].startswith("<")
    assert files() == []


@pytest.mark.parametrize(
    ("text", "says", "place"),
    [
        ("x ^ 2", r"use \*\* for powers", "^"),
        ("x + * 2", "operand is missing", "* 2"),
        ("2*tanhh(x)", "did you mean tanh", "tanhh"),
        ("x - log(x - 5)", r"log is defined .*-3\.0", "log"),
        ("α + 1/(x - x)", "div is defined", "/("),
        ("9**9**9**9", "overflows", "**9**9"),
        ("(" * 10_000 + "x" + ")" * 9_999, "never closed", "("),
        ("__import__('os').system('true')", "not part", "'os'"),
        ("x\n+1", "one line", "�"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "draw", "step"])
def test_a_wrong_expression_has_a_caret_under_the_place(run, command, text, says, place):
    variables = [f"{name}=2" for name in "αx" if name in text]
    out = [] if command == "eval" else ["-o", "out.html"]
    assert_refused_at(run(command, text, *variables, *out), says, place)


def test_an_expression_may_be_nested_as_deeply_as_it_is_long(run):
    parentheses = "(" * 49_000 + "x" + ")" * 49_000
    assert run("eval", parentheses, "x=2")[1].endswith("value = 2.0\n")
    signs = run("eval", "-" * 3_001 + "2*x", "x=2")[1].splitlines()
    assert (len(signs), signs[-1]) == (4, "value = -4.0")
    calls = "tanh(" * 3_000 + "x" + ")" * 3_000
    for command, first in (("eval", "node"), ("step", "forward"), ("derive", "∂v3000/∂x = ")):
        status, out, err = run(command, calls, "x=2")
        assert (status, err) == (0, "")
        assert out.splitlines()[-1 if command == "derive" else 0].startswith(first)


def test_of_a_long_expression_the_part_around_the_place_is_shown(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "x + " * 50 + "? + " + "x + " * 50
    result = run("eval", text, "x=1")
    assert_refused_at(result, "not part", "? +")
    shown = result[2].splitlines()[1]
    assert len(shown) == 40
    assert shown.startswith("  …")
    assert shown.endswith("…")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["w1*x + w2*x + b", "w1=1", "x=2"], "no value for w2, b: give w2=NUMBER b=NUMBER"),
        (["x", "x=1", "y=2", "z=3"], "no y, z: it has only x"),
        (["x", "x=1", "x=2"], "x is given twice"),
        (["µ", "µ=1", "μ=2"], "μ is given twice"),
        (["x", "x=one"], "'one' is not a number"),
        (["x", "x="], "'' is not a number"),
        (["x", "x=inf"], "x=inf: a finite number"),
        (["x", "x=nan"], "x=nan: a finite number"),
        (["x", "x=1e999"], "a finite number"),
        (["x", "y"], "'y' is not name=NUMBER"),
        (["x", "-x"], "'-x' is not name=NUMBER"),
        (["x", "1=2"], "'1=2' is not name=NUMBER"),
        (["x", "=2"], "'=2' is not name=NUMBER"),
        (["x", "x=1", "--fly"], "unrecognized arguments: --fly"),
        (["x", "x=1", "--", "--fly"], "'--fly' is not name=NUMBER"),
        ([], "required: EXPRESSION "),
    ],
)
def test_missing_unused_and_wrong_variables_are_named_in_one_line(run, argv, says):
    assert_refused(run("eval", *argv), says, [])


def test_draw_writes_a_picture_with_the_gradients_in_it(run):
    status, out, err = run("draw", *NEURON, "-o", "neuron.svg")
    assert (status, out, err) == (0, "wrote neuron.svg\n", "")
    with open("neuron.svg", encoding="utf-8") as file:
        svg = file.read()
    assert "<svg" in svg
    for word in ("w1", "x2", "tanh", "-1.5", "0.7071"):
        assert word in svg
    assert run("draw", *NEURON, "--direction", "TB")[1].startswith("<")
    status, out, _ = run("draw", *NEURON, "--json", "--out", "neuron.dot")
    assert json.loads(out)["written"] == "neuron.dot"
    assert json.loads(out)["nodes"] == json.loads(run("eval", *NEURON, "--json")[1])["nodes"]
    assert files() == ["neuron.dot", "neuron.svg"]
    assert json.loads(run("draw", *NEURON, "--json")[1])["written"] is None


def test_draw_without_a_file_prints_the_svg_alone(run):
    status, out, err = run("draw", "α*x", "α=1", "x=2")
    assert (status, err) == (0, "")
    assert out.startswith(("<?xml", "<svg"))
    assert out.endswith("</svg>\n")
    assert "α" in out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-o", "neuron.bmp"], "bmp"),
        (["-o", "nowhere/neuron.dot"], "nowhere"),
        (["-o"], "argument"),
        (["--direction", "up"], "up"),
    ],
)
def test_a_file_that_draw_cannot_write_is_one_line(run, argv, says):
    assert_refused(run("draw", "x*x", "x=2", *argv), says, [])


def test_step_prints_both_passes_or_writes_them_as_a_page(run):
    status, out, err = run("step", "x*y", "x=2", "y=-3")
    assert (status, err) == (0, "")
    assert re.search(r"v1 = x·y = 2\.0 · \(-3\.0\) = -6\.0", out)
    assert re.search(r"∂v1/∂x .*-3\.0", out)
    assert run("step", "x*y", "x=2", "y=-3", "-o", "steps.html")[:2] == (0, "wrote steps.html\n")
    with open("steps.html", encoding="utf-8") as file:
        assert file.read().lower().startswith("<!doctype html>")
    assert files() == ["steps.html"]


def test_step_prints_its_events_as_strict_json(run):
    status, out, err = run("step", "exp(x)", "x=1000", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out, parse_constant=pytest.fail)
    assert (report["value"], report["written"]) == ("inf", None)
    assert [(s["phase"], s["name"], s["before"], s["after"]) for s in report["steps"]] == [
        ("forward", "x", None, 1000.0),
        ("forward", "v1", None, "inf"),
        ("backward", "v1", 0.0, 1.0),
        ("backward", "x", 0.0, "inf"),
    ]
    assert "exp(x)" in report["steps"][1]["formula"]


@pytest.mark.parametrize("command", ["eval", "draw", "step", "derive"])
def test_commands_on_expressions_survive_a_reader_who_has_gone(command):
    text = " + ".join(f"x*{i}" for i in range(60))
    process = subprocess.Popen(
        [sys.executable, "-m", "micrograd_like", command, text, "x=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(), err) == (0, b"")


def test_derive_prints_the_derivation_in_symbols(run):
    assert run("derive", "tanh(w1*x1 + w2*x2 + b)", "--wrt", "w1,w2") == (
        0,
        "v4 = w1 · x1 + w2 · x2 + b\n"
        "v5 = tanh(v4)\n"
        "δ4 = sech(v4)²\n"
        "∂v5/∂w1 = δ4 · x1\n"
        "∂v5/∂w2 = δ4 · x2\n",
        "",
    )
    assert run("derive", "-x*2 + log(α)**2", "--wrt=α")[1].endswith("∂v5/∂α = 2 · v3 / α\n")
    status, out, _ = run("derive", "x**2*y")
    assert status == 0
    assert out.splitlines()[-2:] == ["∂v2/∂x = 2 · y · x", "∂v2/∂y = v1"]


def test_derive_puts_numbers_under_the_symbols_if_there_are_values(run):
    status, out, err = run("derive", "tanh(w*x)", "w=-0.5", "x=2", "--wrt", "w")
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "∂v2/∂w = sech(v1)² · x",
        "∂v2/∂w = sech(-1.0)² · 2.0 = 0.8399",
    ]


def test_derive_writes_latex(run):
    status, out, err = run("derive", "tanh(w1*x)", "--wrt", "w1", "--latex")
    assert (status, err) == (0, "")
    assert out.startswith("\\begin{aligned}\n")
    assert out.endswith("&= \\mathrm{sech}\\left(v_{1}\\right)^{2} \\cdot x\n\\end{aligned}\n")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["x*y", "--wrt", "z"], "'z' is not in the expression: it has x, y"),
        (["x*y", "--wrt", "x,"], "'' is not in the expression"),
        (["x*y", "--wrt"], "--wrt"),
        (["2*3"], "no names"),
        (["x*y", "x=1"], "y=NUMBER"),
        (["log(x)", "x=-1"], "log is defined"),
    ],
)
def test_derive_refuses_in_one_line(run, argv, says):
    status, out, err = run("derive", *argv)
    assert (status, out) == (2, "")
    assert says in err.splitlines()[0]


def test_no_argument_is_lost_after_an_option_with_a_value(run):
    assert run("draw", "-o", "a.dot", "x*y", "x=2", "y=3")[:2] == (0, "wrote a.dot\n")
    assert run("derive", "--wrt", "x", "x*y")[1].endswith("∂v1/∂x = y\n")
