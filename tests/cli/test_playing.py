"""The command `play`: which page it writes. The page itself is tested in `training`."""

import json
import re

import pytest

from micrograd_like import nn


def data_of(page):
    return json.loads(re.search(r"^const DATA = (.*);$", page, re.MULTILINE)[1])


@pytest.mark.parametrize("name", ["moons", "circles", "spiral", "xor"])
def test_it_writes_a_page_of_the_shape(name, run, folder):
    assert run("play", name)[:2] == (0, "wrote play.html: open it in a browser\n")
    data = data_of((folder / "play.html").read_text(encoding="utf-8"))
    assert data["widths"] == [2, 8, 8, 2]
    assert (data["lr"], data["weight_decay"], data["batch_size"]) == (0.03, 0.0, 10)
    assert len(data["train"]) == 320
    assert len(data["test"]) == 80


def test_options_are_those_of_the_page(run, folder):
    options = ["--hidden", "5", "--activation", "relu", "--lr", "0.2", "--weight-decay", "0.01"]
    options += ["--batch-size", "7", "--seed", "3", "-o", "my.html"]
    assert run("play", "moons", *options)[0] == 0
    data = data_of((folder / "my.html").read_text(encoding="utf-8"))
    assert data["widths"] == [2, 5, 2]
    assert (data["lr"], data["weight_decay"], data["batch_size"]) == (0.2, 0.01, 7)
    model = nn.MLP(2, [5, 2], "relu", seed=3)
    assert data["parameters"] == [p.data for p in model.parameters()]


def test_a_table_of_ones_own(run, folder):
    rows = [
        f"{i / 2},{i % 7},{'red' if i % 2 else 'blue'},{'yes' if i > 20 else 'no'}"
        for i in range(40)
    ]
    (folder / "t.csv").write_text("\n".join(["a,b,colour,label", *rows]), encoding="utf-8")
    status, _, err = run("play", "t.csv", "--drop", "b")
    assert (status, err) == (0, "")
    data = data_of((folder / "play.html").read_text(encoding="utf-8"))
    assert data["features"] == ["a", "colour = blue", "colour = red"]
    assert data["classes"] == ["no", "yes"]
    train = [data["X"][i][0] for i in data["train"]]
    assert sum(train) / len(train) == pytest.approx(0.0, abs=1e-9)
    back = [x[0] * data["scale"][0] + data["shift"][0] for x in data["X"]]
    assert back == pytest.approx([i / 2 for i in range(40)])


def test_a_page_of_the_users_own_stays(run, folder):
    page = folder / "play.html"
    for _ in range(2):
        assert run("play", "xor")[0] == 0  # over its own
    page.write_text("mine", encoding="utf-8")
    status, out, err = run("play", "xor")
    assert (status, out) == (2, "")
    assert "play.html is there, and play did not write it" in err
    assert page.read_text(encoding="utf-8") == "mine"
    assert run("play", "xor", "-o", "play.html")[0] == 0  # which names it
    page.write_text("x,y\n" + "1,a\n2,b\n" * 5, encoding="utf-8")
    status, _, err = run("play", "play.html", "-o", "./play.html")
    assert (status, "play.html is the data" in err) == (2, True)
    assert page.read_text(encoding="utf-8").startswith("x,y")


def test_what_it_cannot_play_is_refused_in_a_line(run, folder):
    for argv, word in (
        (["moos"], "did you mean moons"),
        (["digits"], "neither"),
        (["moons", "-o", "page.csv"], "end in .html"),
        (["moons", "--activation", "tahn"], "did you mean tanh"),
        (["moons", "--label", "x"], "--label is for CSV files"),
    ):
        status, out, err = run("play", *argv)
        assert (status, out) == (2, "")
        assert word in err
        assert err.count("\n") == 1
    assert not list(folder.iterdir())
