"""learning.py: train, predict and the show: their files, and what they print."""

import csv
import itertools
import json
import os
import re
import subprocess
import sys

import pytest
from commandline import CSV, ROWS, assert_refused, files, read, write

from micrograd_like import no_grad, optim
from micrograd_like.training import Predictor, datasets


def test_training_writes_model_history_and_pictures_and_ends_with_the_accuracy(run):
    pytest.importorskip("matplotlib")
    status, out, err = run("train", "moons", "--epochs", "33", "--out", "here")
    assert (status, err) == (0, "")
    last = out.splitlines()[-1]
    assert re.findall(r"^epoch +(\d+)", out, re.M) == [*map(str, [*range(1, 11), 20, 30, 33])]
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
    assert len(history) == 33
    assert float(history[-1]["loss"]) < float(history[0]["loss"])
    assert last == f"test accuracy {100.0 * float(history[-1]['validation_accuracy']):.1f} %"


def test_a_trained_model_predicts(run):
    write("data.csv", CSV)
    status, out, err = run("train", "data.csv", "--epochs", "80", "--hidden", "8",
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
    write("data.csv", CSV)
    run("train", "data.csv", "--epochs", "30", "--hidden", "8")
    _, with_label, _ = run("predict", "runs/data/model.json", "data.csv")
    write("other.csv", "note,y,x\n" + "".join(f"hello,{y},{x}\n" for x, y, _ in ROWS))
    status, out, err = run("predict", "runs/data/model.json", "other.csv")
    assert (status, out, err) == (0, with_label, "")


def test_where_an_output_is_nan_predict_gives_no_label_and_says_so(run):
    write(
        "data.csv", "x,y,kind\n" + "".join(f"{x / 1000},{y / 1000},{kind}\n" for x, y, kind in ROWS)
    )
    run("train", "data.csv", "--epochs", "2", "--hidden", "4")
    far = [(s * 1e307, t * 1e307) for s in (-1, 1) for t in (-1, 1)]  # scaled, they overflow
    write("other.csv", "x,y,kind\n0,0,in\n" + "".join(f"{x},{y},in\n" for x, y in far))
    model = Predictor.load("runs/data/model.json")
    with no_grad():
        outs = [model.model(row) for row in datasets.scale(far, model.shift, model.scale)]
    unknown = ["nan" in str([v.data for v in out]) for out in outs]
    assert any(unknown)
    status, out, err = run("predict", "runs/data/model.json", "other.csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert status == 0
    assert [row["prediction"] == "" for row in rows] == [False, *unknown]
    said, accuracy = err.splitlines()
    first = 3 + unknown.index(True)
    assert said.startswith(f"no label for {sum(unknown)} rows, the first in row {first}: ")
    right = sum(row["prediction"] == "in" for row in rows)
    assert accuracy == f"accuracy {100 * right / 5:.1f} % of 5 labelled rows"


def test_training_on_numbers_whose_outputs_are_nan_elsewhere_still_draws(run):
    pytest.importorskip("matplotlib")
    write(
        "data.csv", "x,y,kind\n" + "".join(f"{x * 1e-290},{y}e290,{kind}\n" for x, y, kind in ROWS)
    )
    status, out, err = run("train", "data.csv", "--epochs", "1", "--activation", "relu")
    assert (status, err) == (0, "")
    assert "boundary.png" in out


def test_equal_seeds_write_equal_files(run):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run("train", "circles", "--epochs", "2", "--seed", seed, "--out", out)
    models = [read(f"{out}/model.json") for out in "abc"]
    assert models[0] == models[1] != models[2]


def test_without_matplotlib_training_says_which_extra_brings_the_pictures(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    status, out, err = run("train", "moons", "--epochs", "1", "--out", "here")
    assert (status, err) == (0, "")
    assert "[plots]'" in out
    assert files() == [os.path.join("here", "history.csv"), os.path.join("here", "model.json")]


def test_only_files_need_pandas(run, monkeypatch):
    for name in ("pandas", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("train", "moons", "--epochs", "1", "--out", "here")[0] == 0
    write("data.csv", CSV)
    with pytest.raises(pytest.skip.Exception):
        run("train", "data.csv")


def test_without_a_command_it_trains_the_moons_and_says_what_to_try_next(run):
    status, out, err = run()
    assert (status, err) == (0, "")
    accuracies = [float(a) for a in re.findall(r"accuracy +(\d+\.\d) %", out)]
    assert accuracies[-1] >= 98.0
    assert "░" in out
    assert "train digits" in out
    assert files() == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty|no rows"),
        ("a,b\n1,x\n1\n", "row 3"),
        ("a,b\n1,x\nfoo,y\n", "row 3, column 'a'"),
        ("a,b\n,x\n1,y\n", "row 2, column 'a'"),
        ("a,b\n1,x\n2,x\n", "column 'b'"),
        ('a,b\n1,"x\ny"\nz,w\n', "row 3, column 'a'"),
    ],
)
def test_a_wrong_csv_is_one_line_naming_row_and_column(run, content, says):
    write("data.csv", content)
    assert_refused(run("train", "data.csv"), says, ["data.csv"])


def test_an_output_folder_that_is_a_file_is_refused_before_the_work(run):
    open("taken", "w", encoding="utf-8").close()
    assert_refused(run("train", "moons", "--out", "taken"), "taken is a file", ["taken"])


def test_predict_names_a_missing_column(run):
    write("data.csv", CSV)
    run("train", "data.csv", "--epochs", "1", "--out", "here")
    write("other.csv", "x,z\n1,2\n")
    result = run("predict", "here/model.json", "other.csv")
    assert_refused(result, "no column 'y'", files())


def test_digits_reach_95_percent(run):
    pytest.importorskip("sklearn")
    status, out, _ = run("train", "digits", "--epochs", "4", "--hidden", "24", "--out", "here")
    assert status == 0
    assert "64 features, 10 classes, 1438 examples to train on and 359 to test on" in out
    assert float(out.split()[-2]) >= 95.0


def test_predict_labels_rows_without_a_label_and_scores_the_others(run):
    write("data.csv", CSV)
    run("train", "data.csv", "--epochs", "1", "--hidden", "2")
    for blank, said in ((5, f" of {len(ROWS) - 5} labelled rows\n"), (len(ROWS), "")):
        lines = CSV.splitlines()
        lines[1 : blank + 1] = [line.rpartition(",")[0] + "," for line in lines[1 : blank + 1]]
        write("some.csv", "\n".join(lines))
        status, out, err = run("predict", "runs/data/model.json", "some.csv")
        assert status == 0
        assert out.count("\n") == len(ROWS) + 1
        assert err.endswith(said) if said else err == ""


def test_labels_and_columns_are_text_in_the_pictures_too(run):
    pytest.importorskip("matplotlib")
    write(
        "data.csv",
        "$x_{,$y^^$,kind\n" + CSV.partition("\n")[2].replace("in", "_$\\frac{" + "日" * 99),
    )
    status, _out, err = run("train", "data.csv", "--epochs", "1", "--out", "here")
    assert (status, err) == (0, "")
    assert os.path.exists("here/boundary.png")


def test_a_picture_of_an_earlier_run_does_not_stay(run):
    pytest.importorskip("matplotlib")
    for header, extra in (("x,y,kind", ""), ("x,y,z,kind", "1,")):
        write("data.csv", header + "\n" + "".join(f"{x},{y},{extra}{k}\n" for x, y, k in ROWS))
        assert run("train", "data.csv", "--epochs", "1", "--out", "here", "--force")[0] == 0
        assert os.path.exists("here/boundary.png") == (not extra)


# --- tables as people have them -------------------------------------------------------------------


@pytest.fixture
def tables():
    """The extra that reads them."""
    pytest.importorskip("pandas", reason="needs the extra data")


PRICES = "area;rooms;price\n" + "".join(
    f"{i % 17 + i / 8};{i % 5};{3 * (i % 17) - i % 5 + i / 8:.3f}\n" for i in range(60)
)


def test_a_label_that_is_held_out_and_far_from_all_others_is_refused(run, tables):
    rows = [f"{i / 3},{i + 0.5}" for i in range(28)]
    write("far.csv", "\n".join(["x,y", *rows, "9,1e200"]))
    status, out, err = run("train", "far.csv", "--seed", "4")
    assert (status, out) == (2, "")
    assert err == "micrograd-like: far.csv: 1e+200 is too far from the other labels\n"
    assert not os.path.exists("runs")


def test_numbers_are_learned_with_their_errors_and_pictures(run, tables):
    pytest.importorskip("matplotlib")
    write("prices.csv", PRICES.replace(".", ","))
    status, out, err = run("train", "prices.csv", "--epochs", "90", "--lr", "0.03", "--out", "here")
    assert (status, err) == (0, "")
    assert (
        "prices: 2 features, the number 'price' (losses are of it in standard deviations), "
        "48 examples to train on and 12 to test on" in out
    )
    number = r"(\d+(?:\.\d+)?)"
    last = rf"test error {number} \(mse\), R² {number}, mean absolute error {number}"
    found = re.fullmatch(last, out.splitlines()[-1])
    assert float(found[2]) > 0.8
    names = ["history.csv", "loss.png", "model.json", "predicted.png"]
    assert files() == sorted([*(os.path.join("here", name) for name in names), "prices.csv"])
    status, out, err = run("predict", "here/model.json", "prices.csv")
    predicted = [float(row["prediction"]) for row in csv.DictReader(out.splitlines())]
    truth = [float(line.split(";")[2]) for line in PRICES.splitlines()[1:]]
    mse = sum((x - t) ** 2 for x, t in zip(predicted, truth, strict=True)) / 60
    said = re.fullmatch(rf"{last[5:]} of 60 labelled rows\n", err)
    assert float(said[1]) == pytest.approx(mse, rel=1e-3)
    mean = sum(truth) / 60
    share = 1 - mse * 60 / sum((t - mean) ** 2 for t in truth)
    assert float(said[2]) == pytest.approx(share, abs=1e-3)


def test_one_feature_is_drawn_with_what_was_learned_of_it(run, tables):
    pytest.importorskip("matplotlib")
    write("curve.csv", "x,y\n" + "".join(f"{i / 9},{i * i / 81}\n" for i in range(-20, 20)))
    assert run("train", "curve.csv", "--epochs", "1", "--out", "here")[0] == 0
    assert os.path.join("here", "curve.png") in files()
    assert run("train", "curve.csv", "--epochs", "1", "--out", "here", "--force")[0] == 0


def test_labels_are_read_again_as_they_were_and_others_are_said(run, tables):
    rows = [f"{i},5;{i % 3},0" for i in range(30)]
    write("comma.csv", "\n".join(["x;y", *rows]))
    last = run("train", "comma.csv", "--epochs", "1")[1].splitlines()[-1]
    assert "accuracy" in last
    status, out, err = run("predict", "runs/comma/model.json", "comma.csv")
    found = [row["prediction"] for row in csv.DictReader(out.splitlines())]
    right = sum(x == str(i % 3) for i, x in enumerate(found))
    assert (status, err) == (0, f"accuracy {100 * right / 30:.1f} % of 30 labelled rows\n")
    write("other.csv", "x;y\n1,5;0\n1,5;few\n1,5;7\n")
    said, accuracy = run("predict", "runs/comma/model.json", "other.csv")[2].splitlines()
    assert said == "labels that were not learned: '7', 'few'"
    assert accuracy.endswith(" of 3 labelled rows")


def test_the_error_is_that_of_the_rows_it_counts(run, tables):
    write("prices.csv", PRICES)
    run("train", "prices.csv", "--epochs", "1")
    write("some.csv", PRICES + ";1;3.5\n;2;9\n")
    _, _, err = run("predict", "runs/prices/model.json", "some.csv", "--missing", "drop")
    assert err.splitlines()[0].startswith("no label for 2 rows, the first in row 62")
    assert err.endswith(" of 60 labelled rows\n")


ADULT = "id, age, work, wage\n" + "".join(
    f"{i}, {20 + i % 30}, {['private', 'state', '?'][i % 3]}, {'<=50K' if i % 3 else '>50K'}\n"
    for i in range(60)
)


def test_what_is_missing_is_counted_and_what_is_an_id_is_said(run, tables):
    write("adult.csv", ADULT)
    refused = run("train", "adult.csv")
    assert_refused(
        refused, "row 4, column 'work': .* 'work' 20.; --missing drop .* 20 of 60", ["adult.csv"]
    )
    for missing, rows in (("mean", 48), ("drop", 32)):
        status, out, _ = run(
            "train", "adult.csv", "--missing", missing, "--epochs", "9", "--out", missing
        )
        assert status == 0
        assert "left out: 'id' (different in each row" in out
        assert f"adult: 2 features, 2 classes, {rows} examples to train on" in out
    status, out, err = run("predict", "drop/model.json", "adult.csv")
    assert [row["prediction"] == "" for row in csv.DictReader(out.splitlines())] == [
        False,
        False,
        True,
    ] * 20
    assert err.startswith("no label for 20 rows, the first in row 4: cells are missing, or ")
    status, out, err = run("predict", "mean/model.json", "adult.csv")
    assert ("no label" in err, float(err.split()[1]) > 90) == (False, True)
    assert run("predict", "drop/model.json", "adult.csv", "--missing", "mean")[2].startswith(
        "accuracy"
    )
    content = json.loads(read("mean/model.json"))["classifier"]
    assert content["texts"] == {"work": ["private", "state"]}
    assert (content["features"], content["missing"]) == (["age", "work"], "mean")


def test_columns_are_chosen_by_their_names(run, tables):
    write("adult.csv", ADULT.replace(" age", ' "age, now"'))
    options = ["--epochs", "1", "--missing", "mean"]
    for chosen in (["--features", 'id, "age, now"'], ["--drop", "work"]):
        out = run("train", "adult.csv", *options, *chosen)[1]
        assert f"adult: {1 + (chosen[0] == '--features')} features" in out
    refused = run("train", "adult.csv", "--drop", "wok")
    assert "no column 'wok'; there are 'id', 'age, now', 'work', 'wage'" in refused[2]


def test_columns_of_codes_are_texts_in_training_and_in_predicting(run, tables):
    rows = [f"{['2', '3', '5more'][k % 3]},{k % 2},{'aba'[k % 3]}\n" for k in range(30)]
    write("cars.csv", "doors,kind,class\n" + "".join(rows))
    status, out, _ = run("train", "cars.csv", "--texts", "doors,kind", "--epochs", "40")
    assert (status, "'doors' 3, 'kind' 2" in out) == (0, True)
    write("others.csv", "doors,kind\n2,0\n3,1\n")
    assert run("predict", "runs/cars/model.json", "others.csv")[1].split()[1:] == ["2,a", "3,b"]
    assert "--texts is for CSV files" in run("train", "moons", "--texts", "x")[2]


def test_a_table_without_a_header_is_noticed_by_both_commands(run, tables):
    write("iris.data", CSV.partition("\n")[2])
    status, out, _ = run("train", "iris.data", "--epochs", "1", "--out", "here")
    assert status == 0
    assert "iris.data has no header" in out
    assert f"{len(ROWS) - len(ROWS) // 5 - 1} examples" in out or "examples to train" in out
    write("new.data", "1,2\n")
    status, out, err = run("predict", "here/model.json", "new.data")
    assert (status, out.splitlines()[0], out.splitlines()[1][:2]) == (0, "row,prediction", "1,")
    assert "new.data has no header" in err
    assert run("predict", "here/model.json", "new.data", "--no-header")[2] == ""


def test_labels_of_any_script_are_whole_in_files_and_pipes(run, folder, tables):
    table = "x,y\n" + "".join(f"{i % 2},{'größer' if i % 2 else '日本'}\n" for i in range(40))
    (folder / "u.csv").write_text(table, encoding="utf-16")
    assert run("train", "u.csv", "--epochs", "30", "--lr", "0.1")[0] == 0
    with open("out.csv", "wb") as file:
        path = os.pathsep.join(sys.path)
        subprocess.run(
            [sys.executable, "-m", "micrograd_like", "predict", "runs/u/model.json", "u.csv"],
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": path},
            check=True, stdout=file, stderr=subprocess.PIPE,
        )  # fmt: skip
    rows = csv.DictReader(read("out.csv").splitlines())
    assert {row["prediction"] for row in rows} == {"größer", "日本"}


OPTIONS = ["label x", "drop x", "features x", "missing drop", "regression", "no-regression",
           "encoding x", "header", "no-header"]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_options_for_files_are_refused_for_what_is_built_in(run, option):
    for data in ("moons", "names"):
        status, _, err = run("train", data, f"--{option.split()[0]}", *option.split()[1:])
        assert status == 2
        assert f"--{option.split()[0].removeprefix('no-')} is for" in err


# --- train --resume -------------------------------------------------------------------------------


@pytest.fixture
def train(run, monkeypatch):
    """`train data.csv`, without pictures, which take longer than the training."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    write("data.csv", CSV)
    return lambda *argv: run("train", "data.csv", "--hidden", "3", *argv)


def written(folder):
    return [read(f"{folder}/{name}")
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
    step, count = optim.Adam.step, itertools.count(1)

    def cut(self):
        step(self)
        if next(count) == 5:  # of two an epoch
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
    assert written("two")[0] == read("here/model.json")
    train("--epochs", "4", "--out", "here", "--resume")
    assert written("here") == written("whole")


def test_an_interrupt_while_pictures_are_drawn_costs_nothing_but_them(run, tables, monkeypatch):
    plots = pytest.importorskip("micrograd_like.training.plots")
    pytest.importorskip("matplotlib")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "loss_curve", interrupted)
    write("data.csv", CSV)
    status, out, err = run("train", "data.csv", "--epochs", "2", "--out", "here")
    assert (status, err) == (0, "")
    assert "no pictures: interrupted" in out
    assert out.splitlines()[-1].startswith("test accuracy")
    assert {"here/history.csv", "here/model.json"} <= {*files()}


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
        (["--seed", "1"], "seed .*0.* 1"),
        (["--hidden", "4"], "the model differs"),
        (["--activation", "relu"], "the model differs"),
        (["--lr", "0.02"], r"lr .*0\.01.* 0\.02"),
        (["--batch-size", "8"], "batch_size .*32.* 8"),
        (["--epochs", "1"], "has 2 epochs"),
        (["--test-fraction", "0.3"], "examples .*39.* 34"),
    ],
)
def test_resuming_something_else_is_refused_and_changes_no_file(train, options, says):
    train("--epochs", "2", "--out", "here")
    before, names = written("here"), files()
    assert_refused(train("--out", "here", "--epochs", "4", "--resume", *options), says, names)
    assert written("here") == before


def test_resuming_a_file_of_a_model_alone_is_refused(train):
    train("--epochs", "1", "--out", "here")
    content = json.loads(read("here/model.json"))
    del content["training"]
    with open("here/model.json", "w", encoding="utf-8") as file:
        json.dump(content, file)
    result = train("--out", "here", "--epochs", "4", "--resume")
    assert_refused(result, "no training to go on from", files())
