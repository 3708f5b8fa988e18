"""Tables as people have them: how a file of separated values is written, and numbers made of it.

pandas reads, once it is known with which encoding, separator, decimal point and header. A column of
texts becomes columns of 0 and 1, one for each text. What cannot be learned from is refused, or left
out and said, by its name. (What becomes of the numbers is what scikit-learn's OneHotEncoder,
SimpleImputer and StandardScaler compute, and the tests compare it with them; to import them takes
three times as long as to read a million rows, and a model file has plain numbers in any case.)
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import InputError, MissingExtraError
from ..words import meant, several
from .datasets import Dataset, standardise

_SAMPLE = 2**15  # bytes at the beginning of a file, which show how it is written
_MOST_TEXTS = 50  # in a column
_MOST_CLASSES = 20  # that are numbers: more of them are a quantity
_FEW = 10  # rows that are too few to tell an id from numbers that happen to differ
_MARKS = {codecs.BOM_UTF8: "utf-8-sig"} | dict.fromkeys(
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"
)
# fmt: off
_MISSING = ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "-nan", "null",
            "NULL"]
# fmt: on
_TRUTHS = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}
_ABSENT = ["None", "none", "-", "--", ".", "#DIV/0!", "#VALUE!", "#REF!"]  # beside numbers alone
_BLANKS = r"\s+"
_UNNAMED = "Unnamed: "  # and the place, as pandas says

# 1.234,5 as in most of Europe; 1.5; and 1,234.5 or 1.234,5 whose thousands are set apart.
_COMMA = re.compile(r"[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_GROUPED = {
    ",": re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})+|[1-9]\d?(,\d{2})+,\d{3})(\.\d*)?"),  # 1,00,000
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?"),
}
_DATE = re.compile(
    r"(\d{1,4}([-/.])(\d{1,2}|[A-Za-z]{3,9})\2\d{1,4}|\d{1,2}\.? [A-Za-z]{3,9}\.?,? \d{4}"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})([T ,].*)?|\d{4}[-/]\d{1,2}|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)
_ID = re.compile(r"(?i:(.*[\W_])?(id|no|nr|idx|index|key|uuid|row))|.*[a-z]I[dD]|Unnamed: \d+")
# An integer that is the same when it is printed (a float, beside a gap, has 15 digits), or no code.
_PLAIN = re.compile(
    r"-?(0|[1-9]\d{0,14}|inf)"
    r"|[+-]?((\d+[.,]\d*|[.,]\d+)([eE][+-]?\d+)?|\d+[eE][+-]\d+)"
)
# 12 kg, 45%, €5 and EUR 5; and 1 200, in groups.
_MEASURE = re.compile(
    r"([$€£¥]|[A-Z]{3}\s)?\s?[+-]?(\d+|\d{1,3}([\s'’.,]\d{3})+)([.,]\d+)?"
    r"(\s?[^\s\d.,:;/-][^\s\d]{0,9}(\s[^\s\d]{1,5})?)?"
)
_NUMBERS = "numbers, with faults"
_MOST_UNITS = 3  # in a column; more of them are codes such as seats 12A ... 30F
# What Excel writes above a table: sep=;, which it reads and does not show, and rows of nothing.
_ABOVE = re.compile(r'(sep=[,;\t|]\r?\n)?((""|[,;\t| ])*\r?\n)*')
_FRACTION = re.compile(r"[+-]?\d+\.\d*")


class Layout(NamedTuple):
    """How a file is written; `rows` are the cells of the first rows, without the header.

    `above` is how many lines there are before the table.
    """

    encoding: str
    separator: str
    decimal: str
    thousands: str | None
    header: bool
    names: list[str]
    rows: list[list[str]]
    above: int


def read_table(
    path: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    header: bool | None = None,
    known: Sequence[str] = (),
    decimal: str | None = None,
    texts: Callable[[Layout], Sequence[str]] = lambda layout: (),
    notes: list[str] | None = None,
) -> Any:
    """A file of separated values as a pandas DataFrame; cells that are missing are NaN.

    Its index has the numbers of the rows, counted as a spreadsheet does, from 1, but for blank
    rows. `encoding` and `header` (whether there is one) are found out where they are not given; a
    first row with all the names `known` is a header. Without one, columns are called "1", "2", ...
    `decimal` is the decimal point where all that is there is such as 1,234, which may be in groups.
    `texts` tells which columns are kept as texts. What was noticed is added to `notes`. Raises
    InputError for what is no table, OSError if the file can't be opened.
    """
    try:
        "a".encode(encoding or "utf-8")
    except LookupError:
        raise InputError(f"there is no encoding {encoding!r:.60}") from None
    with Path(path).open("rb") as opened:
        # A pipe is read once.
        file: IO[bytes] = opened if opened.seekable() else io.BytesIO(opened.read())
        start = file.read(_SAMPLE)
        while len(start.splitlines()) < 3 and (more := file.read(len(start))):
            start += more
        if start.startswith(b"PK\3\4"):
            raise InputError(f"{path} is a workbook or another archive: save the table as CSV")
        whole = not file.read(1)
        for tried in [encoding] if encoding else dict.fromkeys([_encoding(start), "cp1252"]):
            with suppress(UnicodeError):
                text = codecs.getincrementaldecoder(tried)().decode(start, whole)
                layout = _layout(path, text, whole, tried, header, known, decimal)
                frame = _frame(path, file, layout, texts(layout))
                break
        else:
            tried = encoding or "UTF-8, UTF-16 or cp1252"
            raise InputError(f"{path} is not in {tried}: --encoding says what it is in")
    if notes is not None and tried == "cp1252" != encoding:
        notes.append(f"{path} is read as cp1252, for it is not UTF-8 (--encoding says otherwise)")
    if notes is not None and not layout.header and header is None:
        notes.append(
            f"{path} has no header: its first row is like the others, and its columns are called "
            f"1 ... {len(layout.names)} (--header says otherwise)"
        )
    digits = [name for name in layout.names if name.isdigit()]
    found = layout.header and header is None and not known
    if notes is not None and found and digits[:2] not in ([], ["0", "1"]):  # pandas' names
        notes.append(
            f"{path} has names in its first row, such as {digits[0]!r:.60} (--no-header says "
            "otherwise)"
        )
    frame.attrs |= {"path": os.fspath(path), "decimal": layout.decimal}
    return frame


def _encoding(start: bytes) -> str:
    """That of the mark at the beginning; without one, UTF-16 has zeros beside Latin letters."""
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    return "utf-16-be" if start[:1] == b"\0" else "utf-16-le" if start[1:2] == b"\0" else "utf-8"


def _layout(
    path: Any,
    text: str,
    whole: bool,
    encoding: str,
    header: bool | None,
    known: Sequence[str],
    decimal: str | None,
) -> Layout:
    """How the file is written that begins with the text, or is it, as a whole."""
    if "\0" in text:
        raise InputError(f"{path} is no text: there is a NUL in its first rows")
    lines = text.count("\n")
    text = _ABOVE.sub("", text, count=1)
    above = lines - text.count("\n")

    def cells(separator: str) -> list[list[str]]:
        if separator == _BLANKS:
            found = [[cell.strip('"') for cell in line.split()] for line in text.splitlines()]
        else:
            lines = io.StringIO(text, newline="")
            found = [*csv.reader(lines, delimiter=separator, skipinitialspace=True)]
        found = [[cell.strip() for cell in row] for row in found]
        return [row for row in found if any(row)][: None if whole else -1]

    limit = csv.field_size_limit(max(len(text), 2**17))
    try:
        # Of two that do as well the comma is the last: it may be a decimal one.
        found = {separator: cells(separator) for separator in (";", "\t", "|", ",", _BLANKS)}
    except csv.Error as error:
        raise InputError(f"{path}: {error}") from None
    finally:
        csv.field_size_limit(limit)
    spaced = found.pop(_BLANKS)  # which may be in any text
    separator = max(found, key=lambda separator: _agreement(found[separator]))
    if not _agreement(found[separator])[0]:
        separator = _BLANKS if _agreement(spaced)[0] > 0.5 else ","
    if separator == "," and _is_one_column(text, found[","], found[";"]):
        separator = ";"
    first, *rows = found.get(separator, spaced) or [[]]
    decimal, thousands = _points(rows, separator, decimal)
    ((width, _),) = Counter(map(len, rows)).most_common(1) or [(len(first), 0)]
    if header is None:
        named = not all(map(str.isdigit, known))
        there = {*known} <= {*first}
        header = (named and there) or not _is_data(first, rows)
        if not there and {*known} <= {*map(str, range(1, len(first) + 1))}:
            header = False  # as there was none where these names are from
    names = first
    if not header:
        names, rows = [str(i) for i in range(1, width + 1)], [first, *rows]
    elif width == len(first) + 1 and not any(row[-1] for row in rows if len(row) == width):
        names = [*first, ""]  # there is a separator at the end of each row
    elif width == len(first) + 1 and 1 < len(rows) == len({row[0] for row in rows}):
        names = ["", *first]  # R writes names of rows, and none for their column
    names = [name or f"{_UNNAMED}{i}" for i, name in enumerate(names)]
    if twice := [f"{name!r:.80}" for name, times in Counter(names).items() if times > 1]:
        raise InputError(
            f"{path}: the header needs a name for each column, and none of them twice: "
            f"{several(twice)}"
        )
    for i, row in enumerate(rows, 1 + header):
        if len(row) > len(names):
            others = "the header" if header else "most others"
            raise InputError(f"{path}: row {i} has {len(row)} cells, {others} {len(names)}")
    return Layout(encoding, separator, decimal, thousands, bool(header), names, rows, above)


def _agreement(rows: list[list[str]]) -> tuple[float, int]:
    """The share of rows that have as many cells as most have, if these are several; the numbers.

    Those are counted: a comma within 1,5;x;y;2,5 makes two cells of it in three that are numbers.
    """
    ((width, count),) = Counter(map(len, rows)).most_common(1) or [(0, 0)]
    some = sum(_is_number(cell) for row in rows[:50] for cell in row)
    return (count / len(rows), some) if width > 1 else (0.0, 0)


def _is_one_column(text: str, apart: list[list[str]], whole: list[list[str]]) -> bool:
    """Whether below one name there are numbers with decimal commas.

    R writes one name, too, and names of rows in front of each number, but in quotes.
    """
    one_name = [*map(len, apart[:1])] == [1] and '"' not in text
    return one_name and all(_is_number(cell) for row in whole[1:] for cell in row)


def _points(rows: list[list[str]], separator: str, decimal: str | None) -> tuple[str, str | None]:
    """The decimal point, and what sets thousands apart, if anything does.

    1,234 is a decimal where commas do not separate cells, and no other cell tells. Integers do in
    its column, beside 1,230 (a decimal would be 1,23), but where such decimals are usual: 1,230;850
    And so does `decimal`, if it is known from another table; where they are usual, for 1.230;4,850
    """
    cells = {cell for row in rows for cell in row}
    decimals = {cell for cell in cells if _COMMA.fullmatch(cell)}
    groups = {cell for cell in cells if _GROUPED[","].fullmatch(cell)}
    points = {cell for cell in cells if _POINT.fullmatch(cell)}
    told = groups - decimals or {x for x in points if not _GROUPED["."].fullmatch(x)}
    mark, usual, unsure = (",", ";", decimals) if decimals else (".", rf",|{_BLANKS}", points)
    for column in zip_longest(*rows, fillvalue="") if not (told or decimals) else ():
        pointed = {x for x in column if "." in x}
        if pointed - points and all(map(_GROUPED["."].fullmatch, pointed)):
            return ",", "."  # 1.234.567, and no addresses such as 10.0.0.1
    if not (told or decimals - groups):
        if decimal and (separator != usual[0] or (decimals and points)):
            return decimal, ".,".replace(decimal, "")
        for column in zip_longest(*rows, fillvalue="") if separator not in usual else ():
            integers = any(cell.strip("0").isdigit() for cell in column)
            if integers and any(x.endswith("0") for x in unsure & {*column}):
                return ".,".replace(mark, ""), mark
    if decimals - groups or (decimals and not told and separator != ","):
        if told:  # both are there, in texts perhaps
            return ".", None
        return ",", "."
    return ".", "," if groups else None


def _is_data(first: list[str], rows: list[list[str]]) -> bool:
    """Whether the first row is like the others: it has numbers where all of them have.

    Where none have, it is if all of its texts come again. Integers may be a header: 0, 1, 2, ...
    are one, as are others beside a text that never comes again in a column where others do.
    """
    numbers, again, fresh = [], bool(rows), False
    for i, cell in enumerate(first):
        column = {row[i] for row in rows if i < len(row)} - {*_MISSING}
        again = again and cell in {*column, *_MISSING}
        if not all(map(_is_number, column)):
            fresh = fresh or (cell not in {*column, *_MISSING} and 2 * len(column) <= len(rows))
        elif _is_number(cell):
            numbers.append(cell)
        elif column and cell not in _MISSING:
            return False
    for cells in (first, numbers):
        fresh |= len(cells) > 2 and cells in (
            [str(i + k) for i in range(len(cells))] for k in (0, 1)
        )
    return (bool(numbers) and not (fresh and all(map(str.isdigit, numbers)))) or again


def _is_number(cell: str) -> bool:
    """Whether it is one to somebody: with a point or a comma, or a typeset minus."""
    cell = cell.replace("\u2212", "-")
    with suppress(ValueError):
        return math.isfinite(float(cell.replace(",", "."))) and cell.isascii() and "_" not in cell
    return any(grouped.fullmatch(cell) for grouped in _GROUPED.values())


def _frame(path: Any, file: IO[bytes], layout: Layout, texts: Sequence[str]) -> Any:
    """The table, read by pandas. Raises UnicodeError where the encoding is another one."""
    pandas = _pandas()

    def read(dtype: Any, missing: Sequence[str] = (), columns: Any = None) -> Any:
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            table = pandas.read_csv(
                file,
                sep=layout.separator,
                skiprows=layout.above,
                header=0 if layout.header else None,
                names=layout.names,
                usecols=columns,
                index_col=False,
                dtype=dtype,
                skipinitialspace=True,
                na_values=[*_MISSING, *missing],
                keep_default_na=False,
                decimal=layout.decimal,
                encoding=layout.encoding,
                low_memory=False,  # or a column that turns to texts far below is half of numbers
            )
        for name in table:
            if not is_numeric(table[name]):  # pandas does not know "NA " as missing
                gaps = [x for x in table[name].unique() if str(x).strip() in _MISSING]
                table[name] = table[name].mask(table[name].isin(gaps))
            if layout.thousands and not (is_numeric(table[name]) or name in texts):
                table[name] = _ungrouped(table[name], layout.thousands, layout.decimal)
        return table

    try:
        frame = read(dict.fromkeys(texts, str))
        for name in frame:
            if pandas.api.types.infer_dtype(frame[name]) == "boolean":
                frame[name] = frame[name].astype(float)  # and NaN
        others = [name for name in frame if not is_numeric(frame[name]) and name not in texts]
        if others := [name for name in others if frame[name].isin(_ABSENT).any()]:
            again = read(None, _ABSENT, others)
            numeric = [name for name in others if is_numeric(again[name])]
            frame[numeric] = again[numeric]
    except pandas.errors.EmptyDataError:
        frame = pandas.DataFrame()
    except (pandas.errors.ParserError, pandas.errors.ParserWarning) as error:
        said = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        text = str(error).rpartition("C error: ")[2].strip()
        if said:
            text = "row {1} has {2} cells, the others {0}".format(*said.groups())
        raise InputError(f"{path}: {text}") from None
    frame.index = pandas.RangeIndex(1 + layout.header, 1 + layout.header + len(frame))
    empty = frame.isna().all(axis=1)
    if empty.any() and len(frame.columns) > 1:  # there are separators in it
        frame = frame[~empty]
    if not len(frame):
        raise InputError(f"{path} is empty: there are no rows below a header")
    unnamed = [name for name in frame if name.startswith(_UNNAMED)]
    return frame.drop(columns=[name for name in unnamed if frame[name].isna().all()])


def _ungrouped(column: Any, thousands: str, decimal: str) -> Any:
    """A column of texts as numbers, some of which are in groups, or as it is if there are others.

    pandas would take every separator away: the date 01.02.2024 would be a number, and so would 1,2.
    """
    there = column.dropna()
    cells = [str(cell).strip() for cell in there]
    grouped = _GROUPED[thousands].fullmatch
    if not all(thousands not in cell or grouped(cell) for cell in cells):
        return column
    plain = [cell.replace(thousands, "").replace(decimal, ".") for cell in cells]
    try:
        found = _pandas().to_numeric(plain)
    except ValueError:
        return column
    return _pandas().Series(found, there.index).reindex(column.index)


def inexact(layout: Layout, names: Sequence[str]) -> Sequence[str]:
    """The names, if pandas would not give back the texts that are in the columns; or none."""
    places = [i for i, name in enumerate(layout.names) if name in names]
    cells = {row[i] for row in layout.rows for i in places if i < len(row)} - {*_MISSING}
    grouped = _GROUPED.get(layout.thousands or "", _PLAIN)
    return () if all(_PLAIN.fullmatch(x) or grouped.fullmatch(x) for x in cells) else names


def from_csv(
    path: str | os.PathLike[str],
    label: str | None = None,
    *,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    texts: Sequence[str] = (),
    missing: str | None = None,
    regression: bool | None = None,
    encoding: str | None = None,
    header: bool | None = None,
) -> Dataset:
    """The examples in a file of separated values, with what its column `label` (the last) says.

    The other columns are `features`, or all but those to `drop`: numbers, or texts, each of which
    is an input that is 1 or 0. Those in `texts` are so whatever is in them: codes, say, or 2, 3,
    more. What is left out, such as an id, and what else was noticed is in the dataset's `notes`.
    Where cells are missing or infinite, `missing="drop"` leaves their rows out, and
    `missing="mean"` keeps NaN in `X`, where `scaled()` has the mean. The label is a number to come
    near to (`regression`) where numbers have fractions, or are more than 20, else a class.
    Raises InputError (a ValueError) naming column, row and cell.
    """
    notes: list[str] = []

    def the_label(names: Sequence[str]) -> Sequence[str]:
        """Its name, in a list: the last that is neither dropped nor none."""
        return [label] if label else [x for x in names if x not in drop and x[:9] != _UNNAMED][-1:]

    def texts_of(layout: Layout) -> Sequence[str]:
        return [*texts, *inexact(layout, the_label(layout.names))]

    frame = read_table(path, encoding=encoding, header=header, texts=texts_of, notes=notes)
    decimal = frame.attrs["decimal"]
    (label,) = the_label([*frame]) or [""]
    chosen = [name for name in frame if name != label] if features is None else [*features]
    refuse(path, absent(frame, [label, *chosen, *drop, *texts]))
    chosen = [name for name in chosen if name not in drop]
    if frame[label].isna().all():
        raise InputError(f"{path}: nothing is in column {label!r:.80}: --label names the label")
    if label in chosen:
        raise InputError(f"{path}: {label!r:.80} is the label, and no feature")
    if len({*chosen}) < len(chosen):
        twice = [f"{name!r:.80}" for name, times in Counter(chosen).items() if times > 1]
        raise InputError(f"{path}: {several(twice)} is a feature twice")
    if features is None:
        some = _without_ids(frame, [name for name in chosen if name not in texts], notes)
        chosen = [name for name in chosen if name in some or name in texts]
    problems: list[str] = []
    of_texts, fit = _texts(frame, chosen, texts, problems)
    if of_texts:
        counts = [f"{name!r:.80} {len(found)}" for name, found in of_texts.items()]
        notes.append(f"columns of texts, each with an input for each: {several(counts, 6)}")
    X, gaps = numbers(frame, fit, of_texts, missing, problems, label)
    left = (gaps if missing == "drop" else gaps[[label]]).any(axis=1).to_numpy()
    if left.any():
        notes.append(f"left out: {left.sum()} of {len(left)} rows, in which cells are missing")
        X, frame = X[~left], frame[~left]
    y, classes = _targets(frame[label], regression, problems) if len(frame) else ([], [])
    refuse(path, problems)
    if not chosen or not len(y):
        raise InputError(f"{path}: there is no feature, or no row, beside the label {label!r:.80}")
    file = Path(path)
    name = file.stem if file.stem.strip(".") else file.name  # "...csv" is no way up
    shift, scale = [0.0] * X.shape[1], [1.0] * X.shape[1]
    if missing == "mean":
        shift, scale = standardise(X)
    inputs = (shift, scale, of_texts, missing)
    return Dataset(name, X, y, chosen, label, classes, *inputs, notes, decimal)


def of_rows(rows: Any, names: Sequence[str]) -> Any:
    """Rows of cells as a DataFrame with these columns, or with names of their own, as dicts have.

    Raises InputError for others.
    """
    pandas = _pandas()
    try:
        frame = pandas.DataFrame(rows)
        if not isinstance(frame.columns, pandas.RangeIndex):
            return frame
        return frame.set_axis([*names], axis=1) if len(frame) else frame.reindex(columns=[*names])
    except (TypeError, ValueError):
        known = several([*map(repr, names)], 6)
        raise InputError(f"rows have a cell for each of {known}") from None


def refuse(path: Any, problems: Sequence[str]) -> None:
    """Raises InputError with all that is wrong with the table, if anything is, in a line."""
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}")


def absent(frame: Any, names: Sequence[str]) -> list[str]:
    """The problem that some of these columns are not there, with those that are; or none."""
    times = Counter(frame)
    if twice := [f"{name!r:.80}" for name in dict.fromkeys(names) if times[name] > 1]:
        return [f"there is more than one column {several(twice)}"]
    lost = [name for name in dict.fromkeys(names) if name not in frame]
    if not lost:
        return []
    theirs, ours = ([f"{name!r:.80}" for name in some] for some in (lost, frame))
    hint = meant(lost[0], map(str, frame))
    return [f"there is no column {several(theirs)}; there are {several(ours, 6)}{hint}"]


def _without_ids(frame: Any, names: list[str], notes: list[str]) -> list[str]:
    """The names of columns to learn from, without empty ones and those that number the rows.

    Those have a different integer in each row, and a name that says so, or so few integers between
    the first and the last that measurements would meet (of n out of m, some n²/2m pairs).
    """
    empty, ids, doubtful = [], [], []
    for name in names:
        column = frame[name].dropna()
        if not len(column):
            empty.append(name)
        elif is_numeric(column) and column.dtype != bool:
            if _is_whole(column) and column.is_unique:
                span = float(column.max()) - float(column.min()) + 1.0
                many = len(column) >= _FEW
                if _ID.fullmatch(name) or (many and len(column) ** 2 > 6.0 * span):
                    ids.append(name)
                elif many:
                    doubtful.append(name)
        elif column.is_unique and (
            name.startswith(_UNNAMED)
            or (_FEW <= len(column) == len(frame) <= _MOST_TEXTS and not _quantities(column))
        ):
            ids.append(name)
    if len(empty) + len(ids) == len(names):
        ids = []
    for found, what in (
        (empty, "left out: {} (nothing is in it)"),
        (ids, "left out: {} (different in each row, as an id is; --features names what to use)"),
        (doubtful, "{} has a different integer in each row: if it is an id, --drop it"),
    ):
        if found:
            notes.append(what.format(several([f"{name!r:.80}" for name in found], 6)))
    return [name for name in names if name not in {*empty, *ids}]


def _is_whole(column: Any) -> bool:
    """Whether all numbers in it are integers; mostly the first ones tell."""
    return all((part % 1 == 0).all() for part in (column.iloc[:_FEW], column))


def _texts(
    frame: Any, names: list[str], wanted: Sequence[str], problems: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The texts of each column that is not of numbers, and the columns that can become inputs.

    The others, of dates or of many texts, are a problem. A column in which at least half of the
    cells are numbers is one of numbers, with faults, unless it is `wanted` as texts.
    """
    texts, refused = {}, {}
    for name in names:
        if is_numeric(frame[name]) and name not in wanted:
            continue
        column = frame[name].dropna().astype(str)
        what = "" if name in wanted else _quantities(column)
        if what == _NUMBERS:
            continue
        found = sorted({canonical(x) for x in column.unique()})
        if what:
            refused[name] = what
        elif len(found) > _MOST_TEXTS:
            refused[name] = f"{len(found)} different texts (at most {_MOST_TEXTS} become inputs)"
        else:
            texts[name] = found
    if refused:
        what = several([f"column {name!r:.80} has {why}" for name, why in refused.items()])
        problems.append(
            f"{what}: write bare numbers, or leave out with --drop {','.join(refused):.500}"
        )
    return texts, [name for name in names if name not in refused]


def _quantities(column: Any) -> str:
    """What the texts of the column are, if not just texts: dates, or numbers of some kind."""
    column = column.astype(str)
    values = [*column.unique()]
    if 2 * column.isin([x for x in values if _is_number(x)]).sum() >= len(column):
        return _NUMBERS
    found = sorted({canonical(x) for x in values})
    if 2 * sum(bool(_DATE.fullmatch(x)) for x in found) > len(found):
        return f"dates, such as {found[0]!r:.60}"
    if len(found) > min(_FEW, len(column) // 2) and (measure := _measure(found)):
        return f"numbers with a unit or in groups, such as {measure}"
    return ""


def _measure(texts: Sequence[str]) -> str:
    """One of the texts, if most of them are numbers with a unit, and there are few units."""
    found = {x: match for x in texts if (match := _MEASURE.fullmatch(x))}
    units = {match.group(1, 5) for match in found.values()}
    some = [f"{x!r:.60}" for x in found if not _is_number(x)]
    return some[0] if 2 * len(found) > len(texts) and len(units) <= _MOST_UNITS and some else ""


def labels(column: Any, classes: bool) -> list[Any]:
    """The texts of the classes in the column, or its numbers; None where there is none."""
    if classes:
        return [None if x != x else canonical(str(x)) for x in column.tolist()]
    found = _pandas().to_numeric(column, errors="coerce")
    return [x if math.isfinite(x) else None for x in found.astype(float).tolist()]


def canonical(text: str) -> str:
    """The text by which it is known: that of 1.0 is 1."""
    text = text.strip()
    return text.rstrip("0").rstrip(".") if _FRACTION.fullmatch(text) else text


def numbers(
    frame: Any,
    features: Sequence[str],
    texts: Mapping[str, list[str]],
    missing: str | None,
    problems: list[str],
    label: str | None = None,
) -> tuple[Any, Any]:
    """The columns as an array of inputs, NaN where cells are missing, and a table of where that is.

    A column of `texts` becomes an input for each, which is 1 or 0. Cells that are neither are a
    problem, as are missing ones, the label's too, unless `missing` says what to do with them.
    """
    import numpy as np

    if missing not in (None, "drop", "mean"):
        problems.append(f"missing is 'drop' or 'mean', got {missing!r:.60}")
    parts, wrong, faults, codes = {}, {}, [], []
    for name in features:
        column, bad, problem = frame[name], np.False_, "not a finite number"
        if name in texts:
            found = column.map(lambda x: canonical(str(x)), na_action="ignore")
            places = _pandas().Index(texts[name]).get_indexer(found)
            bad = (places < 0) & column.notna().to_numpy()
            problem = f"none of {several([*map(repr, texts[name])], 6)}, which were learned"
            size = len(texts[name])
            parts[name] = np.vstack([np.eye(size), np.full(size, np.nan)])[places]  # -1: the last
        elif is_numeric(column):
            parts[name] = column.to_numpy(float, na_value=np.nan)[:, None]
        else:
            # As objects: pandas makes numbers of times in a column of them, of nanoseconds.
            cells = [_TRUTHS.get(x, x) if isinstance(x, str) else x for x in column.tolist()]
            objects = np.empty(len(cells), object)
            objects[:] = cells
            found = np.asarray(_pandas().to_numeric(objects, errors="coerce"), float)
            bad = np.isnan(found) & column.notna().to_numpy()
            parts[name] = found[:, None]
        wrong[name] = bad
        if bad.any():
            row = bad.argmax()
            cell = f"row {frame.index[row]}, column {name!r:.80}: {str(column.iloc[row])!r:.60}"
            more = f" (and {bad.sum() - 1} more in the column)" if bad.sum() > 1 else ""
            faults.append(f"{cell} is {problem}{more}")
            if label is not None and column.nunique() <= _MOST_TEXTS:
                codes.append(name)
    if faults:
        way_out = f"; --texts {','.join(codes):.500} takes what is there as texts" if codes else ""
        problems.append(several(faults, 6) + way_out)
    X = np.hstack([*parts.values()]) if parts else np.empty((len(frame), 0))
    gaps = {name: ~np.isfinite(part[:, 0]) & ~wrong[name] for name, part in parts.items()}
    if any(gap.any() for gap in gaps.values()):
        X[~np.isfinite(X)] = np.nan
    if label is not None:
        gaps[label] = frame[label].isin([math.inf, -math.inf]) | frame[label].isna()
    gaps = _pandas().DataFrame(gaps, frame.index)
    counts = gaps.sum()
    if missing is None and counts.any():
        said = [f"{name!r:.80} {n}" for name, n in counts.items() if n]
        rows = gaps.any(axis=1)
        first = rows.to_numpy().argmax()
        place = f"row {frame.index[first]}, column {gaps.iloc[first].idxmax()!r:.80}"
        problems.append(
            f"{place}: the cell is missing or infinite (in all: {several(said, 6)}); "
            f"--missing drop leaves {rows.sum()} of {len(gaps)} rows out, --missing mean puts the "
            "mean of its column in the place of each"
        )
    return X, gaps


def _targets(
    column: Any, regression: bool | None, problems: list[str]
) -> tuple[list[Any], list[str]]:
    """What to learn for each row: a number, or the place of its class in the classes."""
    of_numbers = is_numeric(column) and column.dtype != bool
    numbers = column if of_numbers else _pandas().to_numeric(column, errors="coerce")
    told = regression is not None
    if regression is None:
        regression = (of_numbers or bool(numbers.notna().all())) and (
            not _is_whole(numbers) or numbers.nunique() > _MOST_CLASSES
        )
    if regression:
        if numbers.isna().any():
            row = numbers.isna().idxmax()
            cell = f"{str(column[row])!r:.60} is not a finite number"
            problems.append(f"row {row}, column {column.name!r:.80}: {cell}")
        return numbers.tolist(), []
    names = {x: canonical(str(x)) for x in column.unique()}
    classes = sorted({*names.values()}, key=_natural)
    few = 2 <= len(classes) <= max(2, len(column) // 2)
    measure = "" if few and len(classes) <= _MOST_CLASSES else _measure(classes)
    if not few or (measure and not told):
        about = "train --regression learns numbers"
        if measure:
            about = f"{measure} is a number with a unit: write bare numbers"
        problems.append(
            f"column {column.name!r:.80} has {len(classes)} classes in {len(column)} rows: "
            f"that looks like no label (--label names the column; {about})"
        )
    places = {x: classes.index(name) for x, name in names.items()}
    return [places[x] for x in column.tolist()], classes


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size, before other texts by the alphabet."""
    x = math.inf
    with suppress(ValueError):
        x = float(text)
    return (math.inf if math.isnan(x) else x, text)


def is_numeric(column: Any) -> bool:
    """Whether pandas has numbers, or true and false, in the column."""
    return bool(_pandas().api.types.is_numeric_dtype(column))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("pandas", "data") from None
    return pandas
