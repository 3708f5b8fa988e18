"""predictor.py: a model file gives what was saved, for files, tables and rows of its kind."""

import json
import math

import pytest

from micrograd_like import MicrogradError, nn, no_grad, training
from micrograd_like.training import Predictor, datasets, tables

ROWS = [(x / 2, y / 2, "in" if x * x + y * y < 9 else "out") for x in range(-4, 5)
        for y in range(-4, 5)]  # fmt: skip


def trained(data, path, **options):
    """A predictor that has learned the data, in a file."""
    predictor = Predictor.untrained(data, [6], "tanh", seed=1)
    save = training.checkpoint(path, **predictor.about())
    X = data.scaled()
    training.fit(predictor.model, X, data.y, callbacks=[save], **{"epochs": 2, **options})
    return predictor


@pytest.fixture
def file(tmp_path):
    """A function that makes a file of a text."""

    def make(text, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def test_the_predictor_in_a_model_file_is_the_one_that_was_saved(tmp_path):
    data = datasets.circles(20)
    saved = trained(data, tmp_path / "model.json", epochs=1)
    loaded = Predictor.load(tmp_path / "model.json")
    assert loaded.about() == saved.about()
    assert loaded.model.state_dict() == saved.model.state_dict()
    assert loaded.classify(data.X) == saved.classify(data.X)


@pytest.mark.parametrize("count", [3, 200])  # a few are computed otherwise than many
def test_the_likeliest_class_is_the_answer(tmp_path, count):
    predictor = trained(datasets.moons(40), tmp_path / "model.json", loss="cross_entropy")
    rows = datasets.moons(2 * count, seed=1).X[::2]
    found = predictor.probabilities(rows)
    assert [p.index(max(p)) for p in found] == predictor.classify(rows)
    for row, p in zip(rows[:3], found, strict=False):
        outputs = [v.data for v in predictor.model(row)]
        total = math.fsum(map(math.exp, outputs))
        assert p == pytest.approx([math.exp(x) / total for x in outputs], rel=1e-12)


def test_outputs_that_are_not_finite_have_probabilities_unless_they_are_nan(tmp_path):
    predictor = trained(datasets.moons(40), tmp_path / "model.json")
    for outputs, expected in {
        (math.inf, 1.0): [1.0, 0.0],
        (-math.inf, 1.0): [0.0, 1.0],
        (1e308, -1e308): [1.0, 0.0],
        (math.nan, 0.0): None,
    }.items():
        predictor.model.load_state_dict(dict.fromkeys(predictor.model.state_dict(), 0.0))
        for neuron, x in zip(predictor.model.layers[-1].neurons, outputs, strict=True):
            neuron.b.data = x
        assert predictor.probabilities([[0.0, 0.0]]) == [expected]


def test_a_model_file_that_does_not_add_up_is_refused(tmp_path):
    path = tmp_path / "model.json"
    trained(datasets.moons(20), path, epochs=1)
    content = json.loads(path.read_text(encoding="utf-8"))

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
        with_(classifier__classes=["a"]),
        with_(classifier__classes=[]),
        with_(classifier__features=["x"]),
        with_(classifier__scale=[0.0, 1.0]),
        with_(classifier__shift=["a", "b"]),
        with_(classifier__classes=[["a"], "b"]),
        with_(classifier__features=["x", 1]),
        with_(classifier__features=["x1", "x1"]),
        with_(classifier__classes={"0": "a", "1": "b"}),
        with_(classifier__classes=["a"], model__widths=[2, 4, 1]),
        with_(classifier__texts={"x1": ["a", "b"]}),
        with_(classifier__texts={"x1": [1]}),
        with_(classifier__texts=[1]),
        with_(classifier__missing="guess"),
        with_(classifier__target=[0.0]),
        with_(classifier__target=[0.0, 0.0]),
        with_(classifier__decimal=";"),
        with_(classifier__label=["y"]),
        {**content, "classifier": None},
    ]
    for i, changed in enumerate(bad):
        path.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(ValueError, match="predict needs a model") as error:
            Predictor.load(path)
        assert isinstance(error.value, MicrogradError), i


def test_a_model_is_told_from_others_by_what_it_can_do(tmp_path):
    path = tmp_path / "model.json"
    nn.MLP(2, [2, 2]).save(path)
    with pytest.raises(ValueError, match=r"parameters of a network alone, which model.load reads"):
        Predictor.load(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "gpt": {"alphabet": "ab"}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a GPT, which invents lines: micrograd-like sample"):
        Predictor.load(path)


def test_a_file_without_what_newer_ones_have_is_still_read(tmp_path):
    path = tmp_path / "model.json"
    saved = trained(datasets.moons(20), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("texts", "missing", "target", "decimal"):
        del content["classifier"][name]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert Predictor.load(path).about() == saved.about()


# --- tables ---------------------------------------------------------------------------------------

MIXED = "n,c,f,y\n" + "".join(
    f"{x},{'red' if i % 3 else 'blue'},{i % 2 == 0},{kind}\n" for i, (x, _, kind) in enumerate(ROWS)
)


@pytest.fixture
def mixed(file, tmp_path):
    """A predictor of a table with numbers, texts and true or false, and its file."""
    pandas = pytest.importorskip("pandas", reason="needs the extra data")
    path = file(MIXED)
    data = tables.from_csv(path)
    trained(data, tmp_path / "model.json")
    return Predictor.load(tmp_path / "model.json"), path, pandas.read_csv(path), data


def test_a_file_a_frame_and_rows_are_the_same(mixed):
    predictor, path, frame, data = mixed
    wanted = [data.classes[i] for i in predictor.classify(data.X)]
    assert predictor.predict(path) == predictor.predict(str(path)) == wanted
    assert predictor.predict(frame) == wanted
    assert predictor.predict(frame[["f", "c", "n"]].astype({"c": "category"})) == wanted
    assert predictor.predict(frame[["n", "c", "f"]].values.tolist()) == wanted


def test_names_in_rows_are_those_of_the_features_or_refused(mixed):
    predictor, path, frame, _ = mixed
    predictor.missing = "mean"
    wanted, columns = predictor.predict(path), ["f", "c", "n"]
    assert predictor.predict(frame[columns].to_dict("records")) == wanted
    assert predictor.predict(frame[columns].to_dict("list")) == wanted
    assert predictor.predict(frame[columns].to_records(index=False)) == wanted
    assert predictor.predict([]) == []
    row = {"n": 1.0, "c": "red", "F": True}
    unnamed = frame[["n", "c", "f"]].set_axis(range(3), axis=1)
    for rows in ([row], {"n": [1.0], "c": ["red"]}, frame.iloc[0], frame["n"], unnamed):
        with pytest.raises(ValueError, match=r"no column '.*; there are") as caught:
            predictor.predict(rows)
        assert isinstance(caught.value, MicrogradError)


def test_numbers_that_may_be_decimals_or_in_groups_are_what_they_were(file, tmp_path):
    pytest.importorskip("pandas", reason="needs the extra data")
    for decimal, other in ((",", "."), (".", ",")):
        text = "a;n;y\n" + "".join(
            f"{i}{decimal}5;{i}{other}234;{'pq'[i % 2]}\n" for i in range(1, 9)
        )
        data = tables.from_csv(file(text))
        assert (data.X[0].tolist(), data.decimal) == ([1.5, 1234.0], decimal)
        trained(data, tmp_path / "model.json")
        predictor = Predictor.load(tmp_path / "model.json")
        for separator in ";\t":
            few = predictor.read(file(f"a;n\n1{decimal}125;2{other}345\n".replace(";", separator)))
            assert few.to_numpy().tolist() == [[1.125, 2345.0]]
        assert predictor.read(file(f"a;n\n0{other}5;1\n")).to_numpy().tolist() == [[0.5, 1.0]]
        for text in ("a,n\n1.125,2.345\n", "a;n\n1,125;2,345\n"):  # as most write them
            assert predictor.read(file(text)).to_numpy().tolist() == [[1.125, 2.345]]


def test_a_row_that_has_only_a_gap_is_a_row(file, tmp_path):
    pytest.importorskip("pandas", reason="needs the extra data")
    data = tables.from_csv(file("x,y\n" + "".join(f"{x},{kind}\n" for x, _, kind in ROWS)))
    predictor = trained(data, tmp_path / "model.json")
    assert predictor.predict(file('x\n1\n""\nNA\n'), missing="drop")[1:] == [None, None]


def test_inputs_are_rows_of_as_many_numbers_without_names(mixed):
    predictor, *_, data = mixed
    inputs = pytest.importorskip("pandas", reason="needs the extra data").DataFrame(data.X)
    for rows in (inputs, inputs[[1, 0, 2, 3]], data.X[:, :1], data.X[0]):
        with pytest.raises(ValueError, match="rows of 4 numbers"):
            predictor.probabilities(rows)


def test_what_is_asked_of_it_in_python_needs_no_label_and_no_order(mixed, file):
    predictor, path, frame, _ = mixed
    other = file(
        frame[["f", "n", "c"]].assign(more="x").to_csv(sep=";", decimal=",", index=False), "o"
    )
    assert predictor.predict(other) == predictor.predict(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("n,f\n1,True\n", "no column 'c'; there are 'n', 'f'"),
        ("x\n1\n", "no column 'n', 'c', 'f'; there are 'x'"),
        (
            "n,c,f\n1,red,True\n1,green,False\n",
            "row 3, column 'c': 'green' is none of 'blue', 'red'",
        ),
        ("n,c,f\n1,red,True\nfew,red,True\n", "row 3, column 'n': 'few' is not a finite number"),
        (
            "n,c,f\n1,red,True\n1,red,true\n2,red,perhaps\n2,red,no\n",
            "csv: row 4, column 'f': 'perhaps' is not a finite number .and 1 more in the column",
        ),
        ("n,c,f\n1,red,\n", "row 2, column 'f': the cell is missing.*--missing drop"),
        ("n,c,f\ninf,red,True\n", "row 2, column 'n': the cell is missing or infinite"),
        ("n,c\nx,red\n,pink\n", "no column 'f'.*; row 2, .*'x' .*, row 3, .*'pink' .*; row 3, col"),
    ],
)
def test_what_differs_from_the_table_that_was_learned_is_refused_by_name(mixed, file, text, says):
    with pytest.raises(ValueError, match=says) as caught:
        mixed[0].predict(file(text, "other.csv"))
    assert isinstance(caught.value, MicrogradError)
    with pytest.raises(ValueError, match="cell for each of 'n', 'c', 'f'"):
        mixed[0].predict([[1.0, 2.0]])


def test_times_are_no_numbers_and_a_name_stands_for_one_column(mixed):
    """Times in a column are numbers of nanoseconds to pandas."""
    import pandas

    good = pandas.DataFrame([[1.0, "red", True]] * 2, columns=["n", "c", "f"])
    for times in (
        pandas.to_datetime(["2024-01-01", "2024-02-01"]),
        pandas.to_timedelta([1, 2], "s"),
        pandas.period_range("2024-01", periods=2, freq="M"),
    ):
        with pytest.raises(ValueError, match=r"row 0, column 'n': .* is not a finite number"):
            mixed[0].predict(good.assign(n=times))
    with pytest.raises(ValueError, match="more than one column 'n'"):
        mixed[0].predict(pandas.concat([good, good[["n"]]], axis=1))


def test_missing_cells_are_treated_as_they_were_or_as_is_said(mixed, file):
    predictor, _, frame, data = mixed
    gaps = file("n,c,f\n,red,True\n1,?,True\n0,red,False\n", "gaps.csv")
    assert predictor.predict(gaps, missing="drop")[:2] == [None, None]
    with pytest.raises(ValueError, match="missing is 'drop' or 'mean', got 'Drop'"):
        predictor.predict(gaps, missing="Drop")
    predictor.missing = "drop"
    assert predictor.predict(gaps)[:2] == [None, None]
    predictor.missing = "mean"
    found = predictor.predict(gaps)
    assert found[2] == predictor.predict(gaps, "drop")[2]
    with no_grad():
        inputs = datasets.scale(tables.numbers(frame, ["n", "c", "f"], data.texts, None, [])[0],
                                predictor.shift, predictor.scale)[0]  # fmt: skip
        inputs[0] = 0.0
        inputs[1:3] = (0.0 - predictor.shift[1]) / predictor.scale[1], 1.0  # red
        inputs[2] = (1.0 - predictor.shift[2]) / predictor.scale[2]
        outputs = [v.data for v in predictor.model(inputs.tolist())]
    assert found[0] == data.classes[outputs.index(max(outputs))]


def test_numbers_are_predicted_on_their_own_scale(file, tmp_path):
    pytest.importorskip("pandas", reason="needs the extra data")
    path = file("a,b,y\n" + "".join(f"{a},{b},{100 * a - b + 0.5}\n" for a, b, _ in ROWS))
    data = tables.from_csv(path)
    assert data.classes == []
    predictor = Predictor.untrained(data, [4], "tanh", seed=0)
    predictor.target = [0.5, 100.0]
    training.fit(
        predictor.model, data.X, [(t - 0.5) / 100.0 for t in data.y], loss="mse", epochs=60
    )
    found = predictor.predict(path)
    assert all(isinstance(x, float) for x in found)
    assert (
        math.sqrt(sum((x - t) ** 2 for x, t in zip(found, data.y, strict=True)) / len(found)) < 20
    )
