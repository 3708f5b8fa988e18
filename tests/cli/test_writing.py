"""writing.py: a GPT learns lines of text, its file says what it is, and sample invents by it."""

import csv
import json
import os
import re
import sys

import pytest
from commandline import CSV, assert_refused, files, read, write

from micrograd_like import nn
from micrograd_like.cli import writing
from micrograd_like.training.gpt import GPT

LINES = "".join(f"{name}\n" for name in ("anna", "nan", "ann", "hanna", "han", "hannah") * 3)
SMALL = ("--embed", "4", "--heads", "2", "--context", "7", "--epochs", "3", "--batch-size", "4")


@pytest.fixture
def train(run, monkeypatch):
    """`train names.txt`, of a small model, and without pictures, which take longer than that."""
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    write("names.txt", LINES)
    return lambda *argv: run("train", "names.txt", *SMALL, *argv)


def written(folder):
    return [read(f"{folder}/{name}") for name in ("model.json", "history.csv")]


def test_training_says_what_it_does_and_leaves_a_model_that_invents(run):
    pytest.importorskip("matplotlib")
    write("names.txt", LINES)
    status, out, err = run("train", "names.txt", *SMALL[:-4], "--epochs", "30", "--out", "here")
    assert (status, err) == (0, "")
    first, *_, last = out.splitlines()
    assert first == (
        "names: 3 characters, 14 lines to train on and 4 to test on; "
        "GPT of layers 1, embed 4, heads 2, context 7, 252 parameters"
    )
    assert re.fullmatch(r"test loss \d\.\d{4}", last)
    assert float(last.split()[-1]) < 1.2  # a guess has 1.39
    assert files() == [
        *(os.path.join("here", name) for name in ("history.csv", "loss.png", "model.json")),
        "names.txt",
    ]
    with open("here/history.csv", newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    assert [*history[0]] == ["epoch", "loss", "validation_loss"]
    assert f"test loss {float(history[-1]['validation_loss']):.4f}" == last

    status, out, err = run("sample", "here/model.json", "--count", "5")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 5
    assert set(out) <= set("ahn\n")
    assert run("sample", "here/model.json", "--count", "5", "--seed", "0")[1] == out
    assert run("sample", "here/model.json", "--count", "5", "--seed", "1")[1] != out
    likeliest = run("sample", "here/model.json", "--count", "5", "--temperature", "0")[1]
    assert len(set(likeliest.splitlines())) == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_with_tabs_are_invented_with_tabs_but_on_a_terminal(
    train, run, monkeypatch, terminal
):
    write("names.txt", "a\tb\u3000c\n" * 20)
    train("--out", "here", "--epochs", "30")
    monkeypatch.setattr(writing.sys.stdout, "isatty", lambda: terminal)
    _, out, _ = run("sample", "here/model.json", "--temperature", "0", "--count", "1")
    assert out == ("a\ufffdb\ufffdc\n" if terminal else "a\tb\u3000c\n")


def test_many_lines_are_invented_by_a_program_and_are_the_same(train, run, monkeypatch):
    pytest.importorskip("numpy")
    train("--out", "here")
    calls, logits = [], GPT.logits
    monkeypatch.setattr(GPT, "logits", lambda *given: calls.append(1) or logits(*given))

    def sampled():
        calls.clear()
        status, out, err = run("sample", "here/model.json", "--count", "100", "--temperature", "1")
        assert (status, err, len(out.splitlines())) == (0, "", 100)
        return out, len(calls)

    by_program, traced = sampled()
    monkeypatch.setattr(writing.util, "find_spec", lambda name: None)
    by_engine, called = sampled()
    assert by_program == by_engine
    assert traced < 50 < 200 < called


def test_the_file_says_what_it_is(train):
    assert train("--layers", "2", "--out", "here")[0] == 0
    content = json.loads(read("here/model.json"))
    assert content["model"] == {"layers": 2, "embed": 4, "heads": 2, "context": 7}
    assert content["gpt"] == {"alphabet": "ahn"}
    model = writing.load("here/model.json")
    assert model.state_dict() == content["parameters"]
    assert writing.about(model) == {name: content[name] for name in ("model", "gpt")}


def test_equal_seeds_write_equal_files(train):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert train("--seed", seed, "--out", out)[0] == 0
    models = [read(f"{out}/model.json") for out in "abc"]
    assert models[0] == models[1] != models[2]


def test_engines_give_the_same_weights(train):
    pytest.importorskip("numpy")
    states = []
    for engine in ("eager", "compiled"):
        assert train("--engine", engine, "--out", engine)[2] == ""
        states.append(writing.load(f"{engine}/model.json").state_dict())
    assert states[0] == pytest.approx(states[1], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_epochs_in_two_parts_write_what_they_write_in_one(train, engine):
    if engine == "compiled":
        pytest.importorskip("numpy")
    train("--engine", engine, "--epochs", "4", "--out", "whole")
    train("--engine", engine, "--epochs", "2", "--out", "parts")
    assert written("parts") != written("whole")
    status, _, err = train("--engine", engine, "--epochs", "4", "--out", "parts", "--resume")
    assert (status, err) == (0, "")
    assert written("parts") == written("whole")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layers", "2"], "the model differs"),
        (["--heads", "1"], "the model differs"),
        (["--seed", "1"], "seed .*0.* 1"),
        (["--lr", "0.02"], r"lr .*0\.01.* 0\.02"),
    ],
)
def test_resuming_something_else_is_refused_and_changes_no_file(train, options, says):
    train("--out", "here")
    before, names = written("here"), files()
    result = train("--out", "here", "--epochs", "5", "--resume", *options)
    assert_refused(result, says, names)
    assert written("here") == before


def test_a_second_run_takes_the_next_free_name_and_tables_may_be_beside(train, run):
    for folder in ("names", "names-2"):
        assert f"in {os.path.join('runs', folder)}\n" in train()[1]
    before = written("runs/names")
    run("train", "moons", "--epochs", "1", "--out", "runs/names")
    assert written("runs/names") == before
    assert "classifier" in read("runs/names-3/model.json")


def test_lines_that_are_too_long_are_learned_to_where_the_context_ends(train):
    assert "lines are longer than" not in train("--out", "a")[1]
    out = train("--context", "4", "--out", "b")[1]
    assert "\n6 lines are longer than --context 4: they are learned up to there\n" in out


def test_without_numpy_lines_are_learned_eagerly(train, monkeypatch):
    monkeypatch.setattr(writing.util, "find_spec", lambda name: None)
    train("--out", "a")
    train("--engine", "eager", "--out", "b")
    assert written("a") == written("b")


def test_names_are_built_in(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.setitem(writing.BUILT_IN, "names", LINES.split)
    write("names", "a file of that name is not what is meant")
    status, out, _ = run("train", "names", *SMALL)
    assert status == 0
    assert out.startswith("names: 3 characters, 14 lines")
    assert f"in {os.path.join('runs', 'names')}\n" in out


def test_a_txt_file_is_lines_unless_label_says_that_it_is_a_table(run):
    write("data.txt", CSV)
    status, out, _ = run("train", "data.txt", "--label", "kind", "--epochs", "1", "--out", "a")
    assert status == 0
    assert out.startswith("data: 2 features, 2 classes")
    status, out, _ = run("train", "data.txt", *SMALL, "--out", "b")
    assert status == 0
    assert re.match(r"data: \d+ characters, 40 lines", out)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["lines.txt", "--hidden", "3"], "--hidden is for tables, not for lines.txt"),
        (["lines.txt", "--activation", "relu"], "--activation is for tables, not for lines.txt"),
        (["names", "--label", "kind"], "--label is for tables, not for names"),
        (["moons", "--layers", "2"], "--layers is for lines of text, not for moons"),
        (["lines.txt", "--layers", "0"], "layers is a whole number, at least 1, got 0"),
        (["lines.txt", "--heads", "3"], "3 heads share embed=16"),
        (
            ["lines.txt", "--test-fraction", "0"],
            "test fraction of 0.0 leaves none of 18 examples to test on",
        ),
        (["nothing.txt"], "nothing.txt: No such file"),
        (["empty.txt"], "empty.txt is empty"),
        (["latin.txt"], "latin.txt: row 1 is not UTF-8"),
    ],
)
def test_what_cannot_be_learned_is_one_line_and_status_2(run, argv, says):
    write("lines.txt", LINES)
    write("empty.txt", "\n")
    with open("latin.txt", "wb") as file:
        file.write("zoë".encode("latin-1"))
    assert_refused(run("train", *argv), says, files())


def with_(content, **changes):
    changed = json.loads(json.dumps(content))
    for key, value in changes.items():
        place, _, name = key.partition("__")
        changed[place][name] = value
    return changed


def test_a_model_file_that_does_not_add_up_is_refused(run):
    GPT("ab", embed=2, heads=1, context=3).save("gpt.json")
    content = json.loads(read("gpt.json"))
    content |= writing.about(GPT("ab", embed=2, heads=1, context=3))
    write("good.json", json.dumps(content))
    assert run("sample", "good.json")[0] == 0
    bad = [
        with_(content, model__layers=10**9),
        with_(content, model__layers=0),
        with_(content, model__layers=1.0),
        with_(content, model__layers=True, model__heads="1"),
        with_(content, model__embed=-2),
        with_(content, model__heads=3),
        with_(content, model__context=4),
        with_(content, gpt__alphabet="abc"),
        with_(content, gpt__alphabet="aa"),
        with_(content, gpt__alphabet=["a", "b"]),
        {**content, "gpt": None},
        {**content, "model": {}},
        {**content, "format": "micrograd_like/0"},
    ]
    nn.MLP(2, [2]).save("mlp.json")
    bad.append(json.loads(read("mlp.json")))
    names = files()
    for i, changed in enumerate(bad):
        write("bad.json", json.dumps(changed))
        assert_refused(run("sample", "bad.json"), "bad.json", sorted([*names, "bad.json"])), i


def test_models_of_the_other_kind_are_refused_by_name(train, run):
    train("--out", "gpt")
    run("train", "moons", "--epochs", "1", "--hidden", "2", "--out", "moons")
    write("data.csv", CSV)
    before = files()
    assert_refused(run("predict", "gpt/model.json", "data.csv"), "predict needs", before)
    assert_refused(run("sample", "moons/model.json"), "sample needs", before)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--count", "0"], "--count is at least 1"),
        (["--temperature", "-1"], "a temperature is at least 0"),
        (["--temperature", "nan"], "a temperature is at least 0"),
        (["--temperature", "warm"], "warm"),
    ],
)
def test_what_sample_cannot_do_is_refused(train, run, options, says):
    train("--out", "here")
    assert_refused(run("sample", "here/model.json", *options), says, files())
    assert_refused(run("sample", "nothing.json"), "nothing.json: No such file", files())
