"""folder.py: a run overwrites what no run wrote never, and what one wrote when it is told to."""

import argparse
import json
import os
import sys

import pytest
from commandline import CSV, assert_refused, files, read, write

from micrograd_like import nn, training
from micrograd_like.cli.folder import BESIDE, Folder
from micrograd_like.datasets import moons
from micrograd_like.training import Predictor


@pytest.fixture
def train(run):
    """`train data.csv`, for a moment."""
    write("data.csv", CSV)
    return lambda *argv: run("train", "data.csv", "--epochs", "2", "--hidden", "2", *argv)


@pytest.fixture
def bare(train, monkeypatch):
    """The same without pictures, which take longer than the training."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    return train


def contents(folder="."):
    found = {}
    for name in files():
        if name.startswith("" if folder == "." else folder + os.sep):
            with open(name, "rb") as file:
                found[name] = file.read()
    return found


@pytest.mark.parametrize("options", [[], ["--force"]], ids=str)
@pytest.mark.parametrize("name", ["model.json", *BESIDE])
def test_a_file_that_no_run_wrote_is_not_overwritten(run, name, options):
    os.mkdir("here")
    table = os.path.join("here", name)
    for content, data in ((CSV, table), (CSV, "moons"), ("", "moons")):
        write(table, content)
        if name == "model.json" and not content:
            nn.MLP(2, [2]).save(table)  # a model file, but not of a run
        before = contents()
        result = run("train", data, "--epochs", "1", "--out", "here", *options)
        assert_refused(result, f"{name} is (in the way|the data).* --out", files())
        assert result[1] == ""  # nothing was trained
        assert contents() == before


@pytest.mark.parametrize("name", BESIDE)
def test_what_was_put_beside_a_model_since_is_not_overwritten(train, name):
    pytest.importorskip("matplotlib")
    train("--out", "here")
    for place in (name, "notes.txt"):
        write(f"here/{place}", "epoch,loss,accuracy\n1,0.5,0.5\n2,0.5,0.5\n")
    before = contents()
    for option in ("--force", "--resume"):
        assert_refused(train("--out", "here", option), f"{name} is in the way", files())
        assert contents() == before
    os.remove(f"here/{name}")
    assert train("--out", "here", "--force")[0] == 0
    assert contents()[os.path.join("here", "notes.txt")].startswith(b"epoch")


def test_the_data_is_not_overwritten_though_a_run_wrote_it(bare, run):
    bare("--epochs", "40", "--out", "here")
    rows = read("here/history.csv").splitlines()
    before = read("here/history.csv")
    assert len(rows) == 41
    for option in ("--force", "--resume"):
        result = run("train", "here/history.csv", "--epochs", "40", "--out", "here", option)
        assert_refused(result, "history.csv is the data", files())
    assert read("here/history.csv") == before


@pytest.mark.parametrize("name", ["...csv", "..csv", ".csv", "a.b.csv"])
def test_a_table_of_any_name_is_trained_on_below_runs(bare, run, name):
    os.rename("data.csv", name)
    assert run("train", name, "--epochs", "1")[0] == 0
    assert all(path == name or path.count(os.sep) == 2 for path in files())
    assert all(path == name or path.startswith("runs") for path in files())


@pytest.mark.parametrize("options", [[], ["--out", "runs/data"], ["--out", "runs/data/"]], ids=str)
def test_a_second_run_takes_the_next_free_name_and_says_so(bare, options):
    first = bare(*options)
    assert "wrote model.json, history.csv in runs/data\n" in first[1].replace(os.sep, "/")
    before = contents()
    for number in (2, 3):
        status, out, err = bare(*options, "--seed", str(number))
        assert (status, err) == (0, "")
        *_, wrote, accuracy = out.splitlines()
        assert wrote.replace(os.sep, "/") == f"wrote model.json, history.csv in runs/data-{number}"
        assert accuracy.startswith("test accuracy")
    after = contents()
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4
    assert len({after[name] for name in after if name.endswith("model.json")}) == 3


def test_a_folder_that_is_there_and_has_no_run_is_written_to(bare):
    os.mkdir("here")
    open("here/other.txt", "w").close()
    bare("--out", "here")
    assert sorted(os.listdir("here")) == ["history.csv", "model.json", "other.txt"]
    assert os.listdir(".").count("here-2") == 0


def test_the_working_folder_has_a_name_too(bare, folder):
    bare("--out", ".")
    assert bare("--out", ".")[0] == 0
    assert sorted(os.listdir(f"{folder}-2")) == ["history.csv", "model.json"]


def test_force_makes_way_for_a_run_in_the_same_place(train):
    pytest.importorskip("matplotlib")
    train("--out", "here")
    before = contents("here")
    assert len(before) == 5
    assert train("--out", "here", "--force", "--seed", "1")[0] == 0
    after = contents("here")
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


def test_resume_goes_on_with_the_latest_of_the_runs(bare):
    bare()
    bare("--seed", "1")
    first = contents(os.path.join("runs", "data"))
    status, out, _ = bare("--seed", "1", "--epochs", "3", "--resume")
    assert status == 0
    assert "in runs/data-2\n" in out.replace(os.sep, "/")
    assert contents(os.path.join("runs", "data")) == first
    assert len(json.loads(read("runs/data-2/model.json"))["training"]["history"]["loss"]) == 3


@pytest.mark.parametrize("exists", [False, True])
def test_runs_that_begin_at_once_write_to_folders_of_their_own(folder, exists):
    if exists:
        os.makedirs("runs/moons")
    data = moons(20)
    arguments = argparse.Namespace(data="moons", out=None, resume=False, force=False, epochs=1)
    folders = [Folder(arguments, "moons") for _ in range(3)]
    for place in folders:
        classifier = Predictor.untrained(data, [2], "tanh", seed=0)
        about = classifier.about()
        training.fit(
            classifier.model, data.X, data.y, epochs=2,
            callbacks=[lambda model, history, at=place, what=about: at.save(model, history, what)],
        )  # fmt: skip
    assert [place.path.name for place in folders] == ["moons", "moons-2", "moons-3"]
    assert len(files()) == 3
