"""datasets.py: examples that are what they say, scaled and split as they should be."""

import math

import pytest

from micrograd_like import MicrogradError, datasets


@pytest.mark.parametrize("make", [datasets.spiral, datasets.xor])
def test_spirals_and_squares_are_what_they_are_called(make):
    data = make(100, noise=0.0)
    assert (len(data.X), data.y, data.name) == (100, [0, 1] * 50, make.__name__)
    assert data == make(100, noise=0.0) != make(100, noise=0.0, seed=1)
    for (x, y), label in zip(data.X, data.y, strict=True):
        if make is datasets.xor:
            assert (x * y < 0.0) is bool(label)
        else:
            radius = math.hypot(x, y)
            angle = math.pi * (radius + label)
            assert (x, y) == pytest.approx((radius * math.cos(angle), radius * math.sin(angle)))


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


@pytest.mark.parametrize("make", [datasets.moons, datasets.circles, datasets.spiral, datasets.xor])
def test_a_generated_set_without_points_or_of_no_numbers_is_refused(make):
    for n in (0, -1, 100.0, "5"):
        with pytest.raises(MicrogradError, match=f"n is a whole number, at least 1, got {n!r}"):
            make(n)
    with pytest.raises(MicrogradError, match="cannot compute with 'much'"):
        make(5, noise="much")
    assert len(make(1).X) == 1


def test_digits_are_the_1797_of_scikit_learn():
    pytest.importorskip("sklearn")
    data = datasets.digits()
    assert (len(data.X), len(data.X[0]), len(data.classes)) == (1797, 64, 10)
    scaled = data.scaled()
    assert max(map(max, scaled)) == 1.0
    assert min(map(min, scaled)) == 0.0


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install .*\[data\]") as caught:
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
    with pytest.raises(ImportError, match=r"names is not installed.*pip install .*\[data\]"):
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


def test_standardised_features_have_mean_zero_and_deviation_one():
    pytest.importorskip("numpy")
    shift, scale = datasets.standardise([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    assert shift == [3.0, 5.0]
    assert scale == pytest.approx([math.sqrt(8 / 3), 1.0])


def test_a_feature_that_moves_by_rounding_alone_is_not_blown_up():
    pytest.importorskip("numpy")
    third = [[0.1 + 0.2], [0.3]] * 500 + [[3.3 / 11]]
    assert datasets.standardise(third)[1] == [1.0]
    assert datasets.standardise([[3.3]] * 1000) == ([pytest.approx(3.3)], [1.0])
    assert datasets.standardise([[1e9], [1e9 + 1]])[1] == [0.5]


def test_what_is_missing_counts_for_nothing_and_is_the_mean():
    np = pytest.importorskip("numpy")
    X = np.array([[1.0, math.nan], [math.nan, math.nan], [3.0, math.nan]])
    shift, scale = datasets.standardise(X)
    assert (shift, scale) == ([2.0, 0.0], [1.0, 1.0])
    assert datasets.scale(X, shift, scale).tolist() == [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    assert datasets.scale(X.tolist(), shift, scale) == [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]


def test_standardising_survives_huge_and_tiny_numbers():
    pytest.importorskip("numpy")
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
