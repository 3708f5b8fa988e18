"""tables.py: files as people have them become the numbers in them, or are refused by name."""

import csv
import io
import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from micrograd_like import MicrogradError
from micrograd_like.training import tables
from micrograd_like.training.tables import from_csv, read_table

pandas = pytest.importorskip("pandas", reason="needs the extra data")


def write(folder, content, encoding="utf-8"):
    path = folder / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
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
        'x1, "x2", "kind"\n1, "2", "b"\n3, "4.5", "a"\n-1e3, "0", "b"\n',
        GOOD.replace("\n", "\r"),
        GOOD.replace("1,2,b", "+1,+2.,b"),
        GOOD.replace(",", ";"),
        GOOD.replace(",", "\t"),
        GOOD.replace(",", " | "),
        GOOD.replace(",", "   "),
        '"x1" "x2" "kind"\n1 2 "b"\n3 4.5 "a"\n-1e3 0 "b"\n',
        GOOD.replace(",", ";").replace(".", ","),
        "sep=;\r\n" + GOOD.replace(",", ";"),
        GOOD.replace("-1e3", "-1.000,0").replace(",", ";", 4).replace("3,4.5,a", "3;4,5;a")
        .replace("-1.000,0,0,b", "-1.000,0;0;b"),
        GOOD.replace("-1e3", '"-1,000.0"'),
        GOOD.replace("\n", ",\n"),
        GOOD.replace("\n", ",\n").replace("kind,", "kind"),
        GOOD + ",,\n,,\n",
        ',"",\r\n\r\n' + GOOD,
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-le"),
        GOOD.encode("utf-16-be"),
    ],
    ids=[
        "plain", "CRLF", "BOM", "no last newline", "blank lines", "quotes", "spaces",
        "quotes after spaces", "CR", "plus", "semicolons", "tabs", "bars", "blanks",
        "blanks and quotes", "decimal commas", "a hint of the separator",
        "both commas and points", "thousands", "last separators",
        "last separators but in the header", "rows of nothing",
        "rows of nothing above", "UTF-16", "little", "big",
    ],
)  # fmt: skip
def test_a_table_is_read_however_it_was_written(tmp_path, content):
    data = from_csv(write(tmp_path, content))
    assert data.X.tolist() == [[1.0, 2.0], [3.0, 4.5], [-1000.0, 0.0]]
    assert (data.features, data.label, data.classes) == (["x1", "x2"], "kind", ["a", "b"])
    assert (data.y, data.notes) == ([1, 0, 1], [])


def test_the_label_column_can_be_any_and_its_classes_numbers_in_their_order(tmp_path):
    data = from_csv(write(tmp_path, "c,x\n10,1\n9,2\n10,3\n9,4\n"), label="c")
    assert (data.features, data.classes, data.y) == (["x"], ["9", "10"], [1, 0, 1, 0])


def made(header, row, count=12):
    """A table of rows made of 0, 1, ..., count - 1."""
    return "\n".join([header, *map(row, range(count))])


BAD = {
    "empty": ("", "is empty: there are no rows"),
    "blank": ("\n \n", "is empty: there are no rows"),
    "header only": ("a,b\n", "is empty: there are no rows"),
    "one column": ("a\n1\n2\n1\n", "no feature, or no row, beside the label 'a'"),
    "ragged": ("a,b\n1,x\n1\n", "row 3, column 'b': the cell is missing"),
    "too long": ("a,b\n1,x,y\n", "row 2 has 3 cells, the header 2"),
    "too long later": ("a,b\n" + "1,x\n2,y\n" * 20_000 + "1,x,y\n", "row 40002 has 3 cells"),
    "no number": ("a,b\n1,x\nfoo,y\n", "row 3, column 'a': 'foo' is not a finite number"),
    "no number later": ("a,b\n" + "1,x\n2,y\n" * 20_000 + "n/k,y\n", "row 40002, .*'n/k'"),
    "NaN": ("a,b\nnan,x\n1,y\n", "row 2, column 'a': the cell is missing"),
    "infinite": ("a,b\n1,x\n1e999,y\n", "row 3, column 'a': .*(infinite|finite number)"),
    "formula": ("a,b\n=1+1,x\n1,y\n", "row 2, column 'a': '=1[+]1' is not"),
    "another formula": ("a,b\n@x,x\n1,y\n", "row 2, column 'a': '@x' is not"),
    "a hexadecimal": ("a,b\n0x10,x\n1,y\n", "row 2, column 'a': '0x10' is not"),
    "a huge cell": ("a,b\n" + "1" * 200_000 + ",x\n1,y\n", "row 2, column 'a': '1111.* is not"),
    "escapes": ("a,b\n\x1b[31m,x\n1,y\n", r"row 2, column 'a': '\\x1b\[31m' is not"),
    "underscores": ("a,b\n1,x\n1_0,y\n", "row 3, column 'a': '1_0' is not"),
    "other digits": ("a,b\n1,x\n٣,y\n", "row 3, column 'a'"),
    "missing number": ("a,b\n1,x\n,y\n", "row 3, column 'a': .* 'a' 1.; .* 1 of 2 rows"),
    "missing label": ("a,b\n1,x\n2,\n", "row 3, column 'b': the cell is missing"),
    "no labels": ("a,b\n1,\n2,\n", "nothing is in column 'b': --label names the label"),
    "infinite label": ("a,b\n1,1.5\n2,-inf\n3,2.5\n", "row 3, column 'b': .* infinite"),
    "missing thrice": ("a,c,b\n1,?,x\nNA,2,y\n1,,z\n", "'a' 1, 'c' 2.; --missing drop .* 3 of 3"),
    "single class": ("a,b\n1,x\n2,x\n", "column 'b' has 1 classes in 2 rows"),
    "no classes": ("a,b\n1,1\n2,2\n3,3\n4,4\n", "4 classes in 4 rows.*--regression"),
    "repeated column": ("a,a,b\n1,2,x\n3,4,y\n", "none of them twice: 'a'"),
    "NUL": (b"a,b\n1,x\n\x002,y\n", "is no text: there is a NUL"),
    "open quote": ('a,b\n1,"x\n2,y\n', "row"),
    "a workbook": (b"PK\3\4\0", "save the table as CSV"),
    "not cp1252 either": (b"a,b\n1,\x81\xff\n2,x\n", "--encoding says what it is in"),
    "dates": ("t,u,b\n" + "2020-01-02,12:30,x\n1.2.2021,13:30,y\n" * 3, "'t' has dates, such as .*"
              "'u' has dates, such as '12:30': write bare numbers, or leave out with --drop t,u"),
    "many texts": ("t,b\n" + "".join(f"n{i},{'xy'[i % 2]}\n" for i in range(51)), "column 't' has "
                   "51 different texts .at most 50 .*--drop t"),
    "units": (
        made("w,p,q,g,y", lambda i: f"{i} kg,{i}.5%,€{i},{i} 000,{i % 2}"),
        "'w' has numbers with a unit or in groups, such as '0 kg', .*'0.5%', .*'€0' and 1 more: "
        "write bare numbers, or leave out with --drop w,p,q,g",
    ),
    "few units": (
        made("w,y", lambda i: f"{i}{' kg' * (i > 9)},{i % 2}"),
        "row 12, column 'w': '10 kg' is not a finite number .and 1 more in the column",
    ),
    "typeset minus": (
        made("w,y", lambda i: f"\u2212{i % 4},{i % 2}"),
        "row 2, column 'w': '\u22120' is not a finite number",
    ),
    "labels with a unit": (
        made("a,w", lambda i: f"{i % 7},{i % 40} kg", 120),
        "40 classes in 120 rows.*'0 kg' is a number with a unit: write bare numbers",
    ),
    "all at once": (
        made(
            "t,w,a,n,y",
            lambda i: f"1.1.200{i % 9},{i} cm,{i / 3 if i % 8 else ''},{'x' if i > 7 else i},c",
        ),
        "'t' has dates, .*'w' has numbers with a unit.*; row 10, column 'n': 'x' .*.and 3 more in "
        "the column.*; row 2, column 'a': the cell is missing.*; column 'y' has 1 classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_does_not_fit_names_the_place(tmp_path, name):
    content, says = BAD[name]
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=says) as caught:
        from_csv(path)
    assert isinstance(caught.value, MicrogradError)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"label": "z"}, "no column 'z'; there are 'x1', 'x2', 'kind'"),
        ({"features": ["x1", "y"]}, "no column 'y'"),
        ({"drop": ["y", "z"]}, "no column 'y', 'z'"),
        ({"label": "kinds"}, r"no column 'kinds'; .* did you mean kind\?$"),
        ({"features": ["kind"]}, "'kind' is the label"),
        ({"features": ["x1", "x2", "x1"]}, "'x1' is a feature twice"),
        ({"drop": ["x1", "x2"]}, "no feature"),
        ({"drop": ["x1", "x2", "kind"]}, "no column ''; there are 'x1'"),
        ({"regression": True}, "row 2, column 'kind': 'b' is not a finite number"),
        ({"encoding": "utf-16"}, "is not in utf-16"),
        ({"encoding": "no such"}, "no encoding 'no such'"),
        ({"missing": "median"}, "missing is 'drop' or 'mean', got 'median'"),
    ],
)
def test_options_that_do_not_fit_say_what_there_is(tmp_path, options, says):
    with pytest.raises(ValueError, match=says) as caught:
        from_csv(write(tmp_path, GOOD), **options)
    assert isinstance(caught.value, MicrogradError)


def test_the_last_column_is_the_label_unless_it_is_dropped_or_has_no_name(tmp_path):
    path = write(tmp_path, "x,y,z,\n" + "1.5,a,3,5\n2.5,b,4,5\n" * 2)
    assert (from_csv(path).label, from_csv(path, drop=["z"]).label) == ("z", "y")
    assert from_csv(path, drop=["z"]).features == ["x", "Unnamed: 3"]


def test_without_pandas_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is not installed.*pip install .*\[data\]"):
        from_csv(write(tmp_path, GOOD))


def test_a_label_may_have_line_ends_in_its_quotes(tmp_path):
    data = from_csv(write(tmp_path, 'x,c\n1,"a\nb"\n2,"a\nb"\n3,"c ""d"""\n4,"c ""d"""\n'))
    assert data.classes == ["a\nb", 'c "d"']


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path):
    path = write(tmp_path, 'x,c\n1,"a\nb"\n\n,\n2,c\nno,d\n3,e\n')
    assert [*read_table(path).index] == [2, 4, 5, 6]
    with pytest.raises(ValueError, match="row 5, column 'x': 'no'"):
        from_csv(path)


def test_thousands_are_set_apart_below_the_first_look_too(tmp_path):
    text = "a;b;y\n" + "999;1,5;p\n1;2,5;q\n" * 4000
    assert from_csv(write(tmp_path, text + "1.234;0,5;p\n")).X[-1].tolist() == [1234.0, 0.5]


# --- the header -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "features", "rows"),
    [
        ("5.1,3.5,s\n4.9,3.0,s\n6.3,3.3,v\n5.8,2.7,v\n", ["1", "2"], 4),
        ("M,0.455,s\nF,0.53,s\nI,0.33,v\nM,0.4,v\n", ["1", "2"], 4),
        ("x,n,p\nb,n,e\nx,y,p\nb,y,e\nx,n,e\n", ["1", "2"], 5),  # texts alone, which come again
        ("0,0,0\n0,1,1\n1,0,1\n1,1,0\n", ["1", "2"], 4),
        (",3.5,s\n4.9,3.0,s\n6.3,3.3,v\n5.8,2.7,v\n", ["1", "2"], 4),
        ("5,1;3,5;s\n4,9;3,0;s\n6,3;3,3;v\n", ["1", "2"], 3),
        ("a,b,c\n1,2,s\n3,4,v\n", ["a", "b"], 2),
        ("39,?,s\n50,red,s\n38,red,v\n53,blue,v\n28,red,v\n", ["1", "2"], 5),
        ("x,?,p\nb,n,e\nx,y,p\nb,y,e\n", ["1", "2"], 4),
        ("0,1,2\n0.5,2.5,s\n3.5,4.5,v\n", ["0", "1"], 2),  # an array's, by pandas
        ("a,b,c\nx,y,s\nx,z,v\n", ["a", "b"], 2),
        ("5,p,s\n1,q,s\n2,q,v\n3,r,s\n4,r,v\n", ["5", "p"], 4),
        ("1990,1991,c\n1,2,s\n3,4,v\n4,5,v\n5,6,s\n", ["1990", "1991"], 4),
    ],
)
def test_a_header_is_noticed_and_so_is_none(tmp_path, content, features, rows):
    data = from_csv(write(tmp_path, content), missing="mean")
    assert (data.features, len(data.y)) == (features, rows)
    said = [note for note in data.notes if "has no header" in note]
    assert len(said) == (features[0] == "1")
    said = [note for note in data.notes if "has names in its first row" in note]
    assert len(said) == (features[0] in ("1990", "5"))  # or it may be an example, which is lost


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("12,5;yes\n7,0;no\n" * 3, [[12.5, "yes"], [7.0, "no"]]),  # as many numbers as in 5;yes
        ("1,5;red;2,5\n0,5;blue;1,5\n" * 3, [[1.5, "red", 2.5], [0.5, "blue", 1.5]]),
        ("1,5;red;a;2,5\n0,5;blue;b;1,5\n" * 3, [[1.5, "red", "a", 2.5], [0.5, "blue", "b", 1.5]]),
        ("weight, kg;y\n12,5;yes\n7,0;no\n", [[12.5, "yes"], [7.0, "no"]]),
        ("x\n12,5\n7,25\n3\n", [[12.5], [7.25], [3.0]]),
        ('"x"\n"1",5\n"2",25\n', [[1, 5], [2, 25]]),  # names of rows, by R
        ("height (cm)\n1.5\n", [[1.5]]),
        ("a\tb\n999\tx\n1,230\ty\n12,345\tz\n", [[999, "x"], [1230, "y"], [12345, "z"]]),
        ("a;b\n999;x\n1.230;y\n12.345;z\n", [[999, "x"], [1230, "y"], [12345, "z"]]),
        ("a;b\n1.235;x\n83.237.124;y\n999;z\n", [[1235, "x"], [83237124, "y"]]),
        ("a;b;c\n35.751;11.124.642;x\n891;3.664.088;y\n", [[35751, 11124642, "x"]]),
        ("a,b,c\n3.751,192.168.100.120,x\n2.125,10.0.0.1,y\n", [[3.751, "192.168.100.120", "x"]]),
        ("a;b\n999;x\n1,230;y\n0;z\n", [[999, "x"], [1.23, "y"]]),  # these may be decimals:
        ("a\tb\n999\tx\n1.235\ty\n0\tz\n", [[999, "x"], [1.235, "y"]]),
        ("a\tb\n0\tx\n1,230\ty\n2,500\tz\n", [[0, "x"], [1.23, "y"]]),
        ("a\tb\n9\tx\n1,230\ty\n2,5\tz\n", [[9, "x"], [1.23, "y"]]),
        ("a,b\n999,x\n1.230,y\n", [[999, "x"], [1.23, "y"]]),
        ("a  b\n999  x\n1.230  y\n", [[999, "x"], [1.23, "y"]]),
    ],
)
def test_a_decimal_comma_is_not_taken_for_a_separator(tmp_path, content, rows):
    assert tables.read_table(write(tmp_path, content)).values.tolist()[: len(rows)] == rows


@pytest.mark.parametrize(
    ("separator", "numbers", "texts"),
    [
        (";", ["1.234,5", "12,25", "2.000", "7"], ["01.02.2024", "2.02.2024", "1.2.0", "10.0.0.1"]),
        (",", ['"1,234.5"', "12.25", '"2,000"', "7"], ['"1,2,3"', '"2,3,"', '"12,34,5"', '"1,,2"']),
        (",", ['"1,00,234.5"', "12.25", '"2,000"', "7"], ['"1,2,3"', '"20,3,4"', '"1,,2345"', "1"]),
    ],
)
def test_what_sets_thousands_apart_is_not_taken_out_of_dates_and_lists(
    tmp_path, separator, numbers, texts
):
    """The date 01.02.2024 was the number 1022024."""
    rows = [separator.join(row) for row in zip(numbers, texts, strict=True)]
    table = tables.read_table(write(tmp_path, "\n".join([f"x{separator}when", *rows, ""])))
    largest = 100234.5 if "1,00," in numbers[0] else 1234.5
    assert table["x"].tolist() == [largest, 12.25, 2000.0, 7.0]
    assert table["when"].tolist() == [text.strip('"') for text in texts]


def test_header_can_be_said(tmp_path):
    path = write(tmp_path, "1,2,3\n5,6,a\n7,8,b\n")
    assert from_csv(path, header=True).features == ["1", "2"]
    with pytest.raises(ValueError, match="3 classes in 3 rows"):
        from_csv(path, header=False)
    assert [*read_table(path, header=False).columns] == ["1", "2", "3"]
    assert [*read_table(path, known=["2", "1"]).index] == [2, 3]
    path = write(tmp_path, "red,blue\n")
    assert [*read_table(path, known=["1", "2"]).index] == [1]
    with pytest.raises(ValueError, match="no rows below a header"):
        read_table(path, known=["color", "1"])


# --- columns --------------------------------------------------------------------------------------


def column(cells, name="c", **options):
    """A table of these cells, beside a column of numbers and a label, read."""
    text = f"{name},x,y\n" + "".join(f"{c},{i / 8},{'pq'[i % 2]}\n" for i, c in enumerate(cells))
    path = options.pop("folder") / "column.csv"
    path.write_text(text, encoding="utf-8")
    return from_csv(path, **options)


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["True", "False", "True"], [1.0, 0.0, 1.0]),
        (["TRUE", "false", ""], [1.0, 0.0, math.nan]),
        (["1", "-", "3"], [1.0, math.nan, 3.0]),
        (["1", "None", "#DIV/0!"], [1.0, math.nan, math.nan]),
        (["1", "?", "inf"], [1.0, math.nan, math.nan]),
        (["1 ", '"NA  "', "3 "], [1.0, math.nan, 3.0]),
        (["36893488147419103232", "-1", "0"], [2.0**65, -1.0, 0.0]),
    ],
)
def test_numbers_are_also_true_and_false_and_missing_ones(tmp_path, cells, first):
    X = column(cells, folder=tmp_path, missing="mean").X
    assert [*map(str, X[:, 0].tolist())] == [*map(str, first)]


def test_texts_become_columns_of_one_and_zero(tmp_path):
    cells = ["red", "", "blue", "1.0", "1", "red ", "? ", '"  "']
    data = column(cells, folder=tmp_path, missing="mean")
    assert (data.features, data.texts) == (["c", "x"], {"c": ["1", "blue", "red"]})
    nan = [math.nan] * 3
    red, blue, one = [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]
    rows = [red, nan, blue, one, one, red, nan, nan]
    assert str(data.X[:, :3].tolist()) == str(rows)
    assert data.notes == ["columns of texts, each with an input for each: 'c' 3"]


def test_a_column_that_turns_from_numbers_to_texts_far_below_is_read_as_texts(tmp_path):
    cells = ["1", "2"] * 15_000 + ["a", "b", "c"] * 20_000
    data = column(cells, folder=tmp_path)
    assert data.texts == {"c": ["1", "2", "a", "b", "c"]}
    assert data.X[:, 0].sum() == 15_000


@pytest.mark.parametrize(
    ("cells", "name", "kept", "says"),
    [
        (range(100, 130), "c", False, "left out: 'c' .different in each row"),
        (range(3), "c", True, ""),  # too few to tell
        (range(3), "Id", False, "left out: 'Id'"),
        (range(3), "PassengerId", False, "left out: 'PassengerId'"),
        (range(3), "", False, "left out: 'Unnamed: 0'"),
        ([x * x * 1000 for x in range(20)], "c", True, "'c' has a different integer in each row"),
        ([x * x * 1000 for x in range(20)], "user_id", False, "left out: 'user_id'"),
        ([x * x * 1000 for x in range(20)], "grid", True, "'grid' has a different integer"),
        ([x / 2 for x in range(20)], "c", True, ""),
        ([*range(19), 5], "id", True, ""),
        ([f"n{i}" for i in range(20)], "c", False, "left out: 'c'"),
        ([f"n{i}" for i in range(60)], "", False, "left out: 'Unnamed: 0'"),  # names of rows, by R
        ([""] * 20, "c", False, "left out: 'c' .nothing is in it"),
    ],
)
def test_an_id_is_said_and_not_used_in_silence(tmp_path, cells, name, kept, says):
    data = column(cells, name, folder=tmp_path)
    assert data.features == ([name, "x"] if kept else ["x"])
    assert (says in " ".join(data.notes).replace("(", ".")) if says else data.notes == []
    if name and not kept and "nothing" not in says:
        assert column(cells, name, folder=tmp_path, features=[name]).features == [name]


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        ("{} mg", 3),
        ("{}. Klasse", 3),
        ("{0}{0}", 9),
        ("seat {}A", 40),
        ("{}-{}9", 40),
        ("R{}", 40),
        ("10.0.{}.{}", 40),
    ],
)
def test_texts_with_numbers_in_them_may_be_just_texts(tmp_path, cell, count):
    cells = [cell.format(i % count, i % count) for i in range(3 * count)]
    column(cells, folder=tmp_path, name="kind")


def test_an_id_is_used_where_there_is_nothing_else(tmp_path):
    text = "n,y\n" + "".join(f"{i},{i * i / 7}\n" for i in range(30))
    assert from_csv(write(tmp_path, text)).features == ["n"]


@pytest.mark.parametrize(
    ("missing", "rows", "first"), [("drop", 3, "0.0"), ("mean", 4, "0.0"), (None, 0, "")]
)
def test_missing_cells_are_dropped_or_kept_as_told(tmp_path, missing, rows, first):
    text = "a,b,y\n0,1,p\n,2,q\n2,inf,p\n3,4,\n5,?,q\n8,9,p\n7,6,q\n"
    if missing is None:
        with pytest.raises(
            ValueError, match=r"'a' 1, 'b' 2, 'y' 1\); --missing drop leaves 4 of 7"
        ):
            from_csv(write(tmp_path, text))
        return
    data = from_csv(write(tmp_path, text), missing=missing)
    wanted = [[0.0, 1.0], [8.0, 9.0], [7.0, 6.0]]
    if missing == "mean":
        wanted = [[0.0, 1.0], [math.nan, 2.0], [2.0, math.nan], [5.0, math.nan], *wanted[1:]]
        assert data.shift == pytest.approx([22 / 5, 18 / 4])
        assert data.scaled()[1][0] == data.scaled()[2][1] == 0.0
    assert str(data.X.tolist()) == str(wanted)
    assert any("rows, in which cells are missing" in note for note in data.notes)


# --- the label ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["1", "1.0", "0", "0.00"], ["0", "1"]),
        (["1.5", "2.0", "x", "x"], None),  # three in four
        (["007", "008", "007", "008"], ["007", "008"]),
        (["true", "false", "true", "false"], ["false", "true"]),
        (["None", "Apnea", "None", "Apnea"], ["Apnea", "None"]),
        (["+", "-", "-", "+"], ["+", "-"]),
        (["-1", "1", "1", "-1"], ["-1", "1"]),
        ([" a", "a ", "b", '"b"'], ["a", "b"]),
        (["10", "9", "10", "9"], ["9", "10"]),
        (["0.5", "1.5", "0.5", "1.5"], []),
        ([str(i) for i in range(21)] * 2, []),
        ([str(i) for i in range(20)] * 2, [str(i) for i in range(20)]),
    ],
)
def test_labels_are_classes_or_numbers(tmp_path, cells, classes):
    text = "x,y\n" + "".join(f"{i % 3}.5,{cell}\n" for i, cell in enumerate(cells))
    path = write(tmp_path, text)
    if classes is None:
        with pytest.raises(ValueError, match="3 classes in 4 rows"):
            from_csv(path)
        return
    data = from_csv(path)
    assert data.classes == classes
    if not classes:
        assert data.y == [float(cell) for cell in cells]
        assert from_csv(path, regression=False).y != data.y or len({*cells}) > 20
    elif cells[0].strip("+-").isdigit():
        numbers = from_csv(path, regression=True)
        assert (numbers.classes, numbers.y) == ([], [float(cell) for cell in cells])


def test_a_label_with_decimal_commas_is_the_number_that_it_is_with_points(tmp_path):
    cells = [",25", "+0,5", "1e-05", "1,2E-05", "-1,", "7"]
    data = from_csv(write(tmp_path, "x;y\n" + "".join(f"{i % 3};{x}\n{i % 3};{x}\n"
                          for i, x in enumerate(cells))))  # fmt: skip
    assert (data.classes, data.y[::2]) == ([], [float(x.replace(",", ".")) for x in cells])


def test_a_label_in_groups_is_a_number_and_one_of_many_digits_stays_as_it_is(tmp_path):
    prices = [f'{i},"{1234 * i:,}.50"' for i in range(1, 9)]
    data = from_csv(write(tmp_path, "\n".join(["x,price", *prices])))
    assert (data.classes, data.y) == ([], [1234 * i + 0.5 for i in range(1, 9)])
    codes = ["1234567890123456789", "1234567890123456788", ""]  # one float, beside the missing one
    rows = [f"{i}.5,{codes[i % 3]}" for i in range(12)]
    data = from_csv(write(tmp_path, "\n".join(["x,code", *rows])), missing="drop")
    assert (data.classes, data.y) == (codes[1::-1], [1, 0] * 4)


# --- anything -------------------------------------------------------------------------------------

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
TABLES = st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from(["é, è", "ß;ä", "x y"])), min_size=6,
                  max_size=12)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    rows=TABLES,
    separator=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    header=st.booleans(),
)
def test_what_a_program_wrote_is_read_again(
    rows, separator, decimal, encoding, quoting, header, tmp_path_factory
):
    labels = [label for *_, label in rows]
    if len({*labels}) < 2 or len({*labels}) > len(rows) // 2:
        return
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting)
    writer.writerows([["länge", "b", "c"]] if header else [])
    writer.writerows([str(a).replace(".", decimal), f"{b:.4f}".replace(".", decimal), c]
                     for a, b, c in rows)  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    data = from_csv(path, header=header, regression=False)
    assert data.X.tolist() == [[a, b] for a, b, _ in rows]
    assert [data.classes[i] for i in data.y] == labels
    assert from_csv(path).X.tolist() == data.X.tolist()  # the header is found, too


CELLS = st.sampled_from(
    ["1", "-2.5", "a", "b", "", " ", '"', '""', "\0", "\r", "\n", ",", ";", "é", "=1", "\t", "|",
     "1e999", "nan", "\ufeff", "\x1b[1m", "1_0", "true", "1,5", "1.234,5", "2020-01-01", "NA"]
)  # fmt: skip


@given(
    text=st.lists(CELLS, max_size=30).map(lambda cells: "x,y\n1,a\n2,b\n" + "".join(cells)),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    missing=st.sampled_from([None, "drop", "mean"]),
)
def test_any_text_is_a_dataset_or_refused_in_one_line(text, encoding, missing, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.encode(encoding, "replace"))
    problem, data = "", None
    try:
        data = from_csv(path, missing=missing)
    except MicrogradError as error:
        problem = str(error)
    if data is None:
        assert str(path) in problem
        assert "\n" not in problem
    else:
        assert data.X.shape == (len(data.y), len(data.shift))
        assert all(math.isfinite(x) for row in data.scaled() for x in row)
        assert missing == "mean" or all(math.isfinite(x) for row in data.X for x in row)


def test_inputs_are_what_scikit_learn_makes_of_the_same_table(tmp_path):
    """Its transformers have the same numbers: one-hot columns, means in gaps, all of scale 1."""
    pytest.importorskip("sklearn")
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = random.Random(0)
    frame = pandas.DataFrame(
        {
            "a": [rng.gauss(5, 3) if i % 7 else None for i in range(80)],
            "b": [rng.choice([True, False]) for _ in range(80)],
            "c": [rng.choice(["red", "green", "blue"]) for _ in range(80)],
            "d": [3.3] * 80,
            "y": ["p", "q"] * 40,
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = from_csv(tmp_path / "t.csv", missing="mean")
    fill = make_pipeline(SimpleImputer(), StandardScaler())
    encode = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler())
    theirs = make_column_transformer((fill, ["a", "b"]), (encode, ["c"]), (fill, ["d"]))
    ours = data.scaled()
    # They take the deviation of the filled column; ours is that of the numbers that are there.
    filled = theirs.fit_transform(frame.astype({"b": float}))
    share = math.sqrt(1 - frame["a"].isna().mean())
    filled[:, 0] *= share
    assert ours == pytest.approx(filled, abs=1e-12)


def test_two_thousand_columns_are_read(tmp_path):
    n = 2_000
    header, row = ",".join(f"x{i}" for i in range(n)), ",".join("0" * n)
    data = from_csv(write(tmp_path, f"{header},c\n{row},a\n{row},b\n"))
    assert (len(data.features), data.y) == (n, [0, 1])


def test_a_header_longer_than_the_first_look_is_read_to_its_end(tmp_path):
    name = "x" * 50_000
    data = from_csv(write(tmp_path, f"{name}1,{name}2,{name}3\n1,2,a\n3,4,b\n"))
    assert [len(feature) for feature in data.features] == [50_001] * 2


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_columns_are_read_again_in_any_encoding(tmp_path, encoding):
    text = "x,y,c\n" + "-,1.5,b\n2,True,b\n" * 9_000 + "2,2,é\n2,2,é\n"
    data = from_csv(write(tmp_path, text, encoding), missing="mean", drop=["y"])
    assert (data.classes, str(data.X[:2, 0])) == (["b", "é"], "[nan  2.]")
    assert len(data.notes) == (encoding == "cp1252")


def test_a_file_is_read_once_where_it_is_a_pipe(tmp_path):
    import os
    import threading

    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with names")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(GOOD,))
    writer.start()
    data = from_csv(path)
    writer.join()
    assert data.y == [1, 0, 1]


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="a cell for each of 'a', 'b'"):
        tables.of_rows([[1, 2, 3]], ["a", "b"])


def test_columns_that_are_to_be_texts_are_so_whatever_is_in_them(tmp_path):
    rows = [("2", 1, "a"), ("3", 2, "b"), ("5more", 3, "a"), ("2", 1, "b"), ("4", 2, "a")] * 2
    content = "doors,kind,class\n" + "".join("{},{},{}\n".format(*row) for row in rows)
    path = write(tmp_path, content)
    with pytest.raises(MicrogradError, match=r"'5more' is not a finite .*; --texts doors takes"):
        from_csv(path)
    data = from_csv(path, texts=["doors", "kind"])
    assert data.texts == {"doors": ["2", "3", "4", "5more"], "kind": ["1", "2", "3"]}
    expected = [
        [float(text == of) for names, of in (("2345", d[0]), ("123", str(k))) for text in names]
        for d, k, _ in rows
    ]
    assert data.X.tolist() == expected
    assert from_csv(path, texts=["kind"], drop=["doors"]).texts == {"kind": ["1", "2", "3"]}
    with pytest.raises(MicrogradError, match=r"no column 'dors'; .*did you mean doors"):
        from_csv(path, texts=["dors"])
    ids = write(tmp_path, "id,y\n" + "".join(f"{k},{k % 2}\n" for k in range(40)))
    assert from_csv(ids, texts=["id"]).features == ["id"]
    many = write(tmp_path, "x,y\n" + "".join(f"{k},{k % 2}\n" for k in range(60)))
    with pytest.raises(MicrogradError, match=r"60 different texts .at most 50"):
        from_csv(many, texts=["x"])
