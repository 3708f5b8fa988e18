"""datasets.py: examples that are what they say, and CSV errors that name row and column."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_like import MicrogradError, datasets


@pytest.mark.parametrize("make", [datasets.moons, datasets.circles])
def test_generated_sets_are_balanced_reproducible_and_of_their_shape(make):
    data = make(100, seed=1)
    assert len(data.X) == 100
    assert sum(data.y) == 50
    assert data == make(100, seed=1) != make(100, seed=2)
    for (x, y), label in zip(make(100, noise=0.0).X, make(100, noise=0.0).y, strict=True):
        if make is datasets.circles:
            assert math.hypot(x, y) == pytest.approx(0.5 if label else 1.0)
        else:
            centre = (1.0, 0.5) if label else (0.0, 0.0)
            assert math.dist((x, y), centre) == pytest.approx(1.0)
            assert (y <= 0.5) if label else (y >= 0.0)


def test_digits_are_the_1797_of_scikit_learn():
    pytest.importorskip("sklearn")
    data = datasets.digits()
    assert (len(data.X), len(data.X[0]), len(data.classes)) == (1797, 64, 10)
    scaled = data.scaled()
    assert max(map(max, scaled)) == 1.0
    assert min(map(min, scaled)) == 0.0


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"micrograd_like\[data\]") as caught:
        datasets.digits()
    assert isinstance(caught.value, MicrogradError)


def test_names_are_the_5163_of_the_census():
    pytest.importorskip("names")
    names = datasets.names()
    assert (len(names), names[0], names[-1]) == (5163, "aaron", "zulma")
    assert names == sorted({*names})
    assert all(name.isascii() and name.isalpha() and name.islower() for name in names)


def test_names_of_both_lists_come_once_and_nothing_is_executed(tmp_path, monkeypatch):
    package = tmp_path / "names"
    (tmp_path / "names-0.3.0.dist-info").mkdir()
    package.mkdir()
    (tmp_path / "names-0.3.0.dist-info/METADATA").write_text("Name: names\nVersion: 0.3.0\n")
    (package / "__init__.py").write_text("1 / 0\n")
    (package / "dist.female.first").write_text("ROBIN  0.1  0.1  1\nMARY   2.6  2.7  2\n\n")
    (package / "dist.male.first").write_text("JOHN   3.2  3.2  1\nROBIN  0.1  3.3  2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert datasets.names() == ["john", "mary", "robin"]


def test_without_the_package_names_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ImportError, match=r"names is not installed.*micrograd_like\[data\]"):
        datasets.names()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_file_is_its_lines_without_blanks_around_them(tmp_path, end):
    path = tmp_path / "lines.txt"
    path.write_bytes(f"\ufeffemma{end}  ada lovelace\t{end}{end}zoë".encode())
    assert datasets.read_lines(path) == ["emma", "ada lovelace", "zoë"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is empty"), (b" \n\t\n", "is empty"), (b"emma\nzo\xeb\nada\n", "row 2 is not UTF-8")],
)
def test_a_text_file_without_lines_is_refused(tmp_path, content, says):
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    with pytest.raises(MicrogradError, match=says):
        datasets.read_lines(path)
    with pytest.raises(OSError, match="no_such"):
        datasets.read_lines(tmp_path / "no_such.txt")


def write(tmp_path, content):
    path = tmp_path / "data.csv"
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return path


GOOD = "x1,x2,kind\n1,2,b\n3,4.5,a\n-1e3,0,b\n"


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        GOOD + "\n   \n\n",
        GOOD.replace("1,2,b", '"1","2","b"'),
        GOOD.replace(",", " , "),
        GOOD.replace("\n", "\r"),
        GOOD.replace("1,2,b", "+1,+2.,b"),
    ],
    ids=[
        "plain",
        "CRLF",
        "BOM",
        "no last newline",
        "blank lines",
        "quotes",
        "spaces",
        "CR",
        "plus",
    ],
)
def test_a_csv_is_read_whatever_its_line_ends_and_quotes(tmp_path, content):
    data = datasets.from_csv(write(tmp_path, content))
    assert data.X == [[1.0, 2.0], [3.0, 4.5], [-1000.0, 0.0]]
    assert (data.features, data.label, data.classes) == (["x1", "x2"], "kind", ["a", "b"])
    assert data.y == [1, 0, 1]


def test_the_label_column_can_be_any_and_its_classes_numbers_in_their_order(tmp_path):
    data = datasets.from_csv(write(tmp_path, "c,x\n10,1\n9,2\n10,3\n9,4\n"), label="c")
    assert (data.features, data.classes, data.y) == (["x"], ["9", "10"], [1, 0, 1, 0])


BAD = {
    "empty": ("", "is empty: there are no rows"),
    "header only": ("a,b\n", "is empty: there are no rows"),
    "one column": ("a\n1\n2\n", "column 'a' has .* beside 0 other columns"),
    "ragged": ("a,b\n1,x\n1\n", "row 3 has 1 cells, the header 2"),
    "too long": ("a,b\n1,x,y\n", "row 2 has 3 cells"),
    "no number": ("a,b\n1,x\nfoo,y\n", "row 3, column 'a': 'foo' is not a finite number"),
    "NaN": ("a,b\nnan,x\n1,y\n", "row 2, column 'a': 'nan' is not a finite number"),
    "infinite": ("a,b\n1,x\n1e999,y\n", "row 3, column 'a'"),
    "formula": ("a,b\n=1+1,x\n1,y\n", "row 2, column 'a': '=1[+]1' is not"),
    "another formula": ("a,b\n@x,x\n1,y\n", "row 2, column 'a': '@x' is not"),
    "a hexadecimal": ("a,b\n0x10,x\n1,y\n", "row 2, column 'a': '0x10' is not"),
    "a huge cell": ("a,b\n" + "1" * 200_000 + ",x\n", "row 2: field larger than"),
    "escapes": ("a,b\n\x1b[31m,x\n1,y\n", r"row 2, column 'a': '\\x1b\[31m' is not"),
    "underscores": ("a,b\n1,x\n1_0,y\n", "row 3, column 'a': '1_0' is not"),
    "other digits": ("a,b\n1,x\n٣,y\n", "row 3, column 'a'"),
    "semicolons": ("a;b\n1;x\n2;y\n", "column 'a;b' has .* beside 0 other columns"),
    "missing number": ("a,b\n1,x\n,y\n", "row 3, column 'a': the cell is empty"),
    "missing label": ("a,b\n1,x\n2,\n", "row 3, column 'b': the cell is empty"),
    "single class": ("a,b\n1,x\n2,x\n", "column 'b' has 1 classes in 2 rows"),
    "no classes": ("a,b\n1,1\n2,2\n3,3\n4,4\n", "4 classes in 4 rows"),
    "repeated column": ("a,a,b\n1,2,x\n3,4,y\n", "none of them twice"),
    "unnamed column": ("a,,b\n1,2,x\n3,4,y\n", "a name for each column"),
    "NUL": (b"a,b\n1,x\n\x002,y\n", "row"),
    "UTF-16": (GOOD.encode("utf-16"), "not UTF-8"),
    "Latin-1": ("a,b\n1,é\n2,x\n".encode("latin-1"), "not UTF-8"),
    "open quote": ('a,b\n1,"x\n2,y\n', "row"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_csv_that_does_not_fit_names_the_place(tmp_path, name):
    content, says = BAD[name]
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=says) as caught:
        datasets.from_csv(path)
    assert isinstance(caught.value, MicrogradError)
    assert str(path) in str(caught.value)


def test_an_unknown_label_column_lists_the_columns(tmp_path):
    with pytest.raises(ValueError, match="no column 'z'; there are 'x1', 'x2', 'kind'"):
        datasets.from_csv(write(tmp_path, GOOD), label="z")


def test_standardised_features_have_mean_zero_and_deviation_one():
    shift, scale = datasets.standardise([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    assert shift == [3.0, 5.0]
    assert scale == pytest.approx([math.sqrt(8 / 3), 1.0])


def test_standardising_survives_huge_and_tiny_numbers():
    shift, scale = datasets.standardise([[1e308, 1e-320], [-1e308, 0.0]])
    assert shift == [0.0, pytest.approx(5e-321)]
    assert all(0.0 < s < math.inf for s in scale)


def test_a_split_keeps_the_proportions_and_every_example():
    y = [0] * 50 + [1] * 10
    train, test = datasets.split(y, 0.2, seed=0)
    assert sorted(train + test) == list(range(60))
    assert [y[i] for i in test].count(1) == 2
    assert datasets.split(y, 0.2, seed=0) == (train, test) != datasets.split(y, 0.2, seed=1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0, math.nan, 0.001, 0.999])
def test_a_split_that_leaves_nothing_on_one_side_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        datasets.split([0, 1, 0, 1], fraction, seed=0)


def test_a_label_may_have_line_ends_in_its_quotes(tmp_path):
    data = datasets.from_csv(write(tmp_path, 'x,c\n1,"a\nb"\n2,"a\nb"\n3,"c ""d"""\n4,"c ""d"""\n'))
    assert data.classes == ["a\nb", 'c "d"']


def test_a_hundred_thousand_columns_take_time_in_proportion(tmp_path):
    n = 100_000
    header = ",".join(f"x{i}" for i in range(n))
    row = ",".join("0" * n)
    data = datasets.from_csv(write(tmp_path, f"{header},c\n{row},a\n{row},b\n"))
    assert (len(data.features), data.y) == (n, [0, 1])


CELLS = st.sampled_from(
    ["1", "-2.5", "a", "b", "", " ", '"', '""', "\0", "\r", "\n", ",", ";", "é", "=1",
     "1e999", "nan", "\ufeff", "\x1b[1m", "1_0"]
)  # fmt: skip


@given(
    text=st.lists(CELLS, max_size=30).map(lambda cells: "x,y\n1,a\n2,b\n" + "".join(cells)),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_any_text_is_a_dataset_or_refused_in_one_line(text, encoding, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.encode(encoding, "replace"))
    problem, data = "", None
    try:
        data = datasets.from_csv(path)
    except MicrogradError as error:
        problem = str(error)
    if data is None:
        assert str(path) in problem
        assert "\n" not in problem
    else:
        assert {len(row) for row in data.X} == {len(data.features)}
        assert all(math.isfinite(x) for row in data.X for x in row)
