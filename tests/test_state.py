"""state.py: model files keep every bit, and a file that does not fit changes nothing."""

import json
import math
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_like import MicrogradError, Value, nn, state
from micrograd_like.errors import StateError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.json"


def test_saving_and_loading_keeps_every_bit(path):
    model = nn.MLP(2, [3, 1], seed=0)
    numbers = [0.1, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3, 2**-1074]
    for p, x in zip(model.parameters(), numbers, strict=False):
        p.data = x
    model.save(path)
    other = nn.MLP(2, [3, 1], seed=1)
    parameters = other.parameters()
    other.load(path)
    assert other.parameters() == parameters  # in place: the very same Values
    assert [p.data.hex() for p in parameters] == [p.data.hex() for p in model.parameters()]


@given(x=st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_survives(x, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "one.json"
    state.write_file(path, {"w": x})
    assert float(state.read_file(path)["parameters"]["w"]).hex() == x.hex()


def test_the_file_is_json_and_says_its_format(path):
    nn.Neuron(1, seed=0).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == "micrograd_like/1"
    assert list(content["parameters"]) == ["w[0]", "b"]
    assert not path.read_bytes().startswith(pickle.PROTO)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_saved_and_the_old_file_stays(path, bad):
    model = nn.Neuron(1, seed=0)
    model.save(path)
    before = path.read_bytes()
    model.b.data = bad
    with pytest.raises(ValueError, match="'b' is"):
        model.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_write_leaves_the_old_file_and_no_other(path, monkeypatch):
    model = nn.Neuron(1, seed=0)
    model.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="space"):
        model.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
def test_an_interrupted_write_leaves_the_old_file_and_no_other(path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    model = nn.MLP(2, [1], seed=0)
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_path_without_a_name_is_an_os_error():
    with pytest.raises(IsADirectoryError):
        nn.MLP(2, [1], seed=0).save(".")


def test_a_saved_file_has_the_permissions_of_the_umask(path):
    mask = os.umask(0o027)
    try:
        nn.Neuron(1).save(path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640


def changed(**changes):
    content = {"format": "micrograd_like/1", "parameters": {"w[0]": 1.0, "b": 2.0}}
    return json.dumps({**content, **changes})


BAD_FILES = {
    "empty": ("", "not a model file"),
    "no JSON": ("{", "not a model file"),
    "truncated": (changed()[:-9], "not a model file"),
    "a list": ("[1, 2]", "no parameters"),
    "no parameters": ('{"format": "micrograd_like/1"}', "no parameters"),
    "parameters in a list": (changed(parameters=[1.0]), "no parameters"),
    "another version": (changed(format="micrograd_like/9"), "micrograd_like/9"),
    "no format": (json.dumps({"parameters": {}}), "None"),
    "a missing name": (changed(parameters={"b": 1.0}), "lacks 'w"),
    "another name": (changed(parameters={"w[0]": 1.0, "b": 1.0, "c": 0.0}), "only it has 'c'"),
    "a text": (changed(parameters={"w[0]": "1", "b": 1.0}), "needs a finite number"),
    "a bool": (changed(parameters={"w[0]": True, "b": 1.0}), "needs a finite number"),
    "null": (changed(parameters={"w[0]": None, "b": 1.0}), "needs a finite number"),
    "a list for a number": (changed(parameters={"w[0]": [1.0], "b": 1.0}), "needs a finite number"),
    "NaN": (changed().replace("1.0", "NaN"), "NaN"),
    "Infinity": (changed().replace("1.0", "-Infinity"), "Infinity"),
    "an overflow": (changed().replace("1.0", "1e999"), "finite"),
    "a huge integer": (changed().replace("1.0", "1" + "0" * 400), "finite"),
    "a longer integer": (changed().replace("1.0", "1" + "0" * 5000), "not a model file"),
    "a repeated name": (changed().replace('"b": 2.0', '"b": 2.0, "b": 3.0'), "twice"),
    "deep nesting": ("[" * 100_000, "not a model file"),
    "a deep format": (changed(format=json.loads("[" * 900 + "]" * 900)), "one of type list"),
    "a parameter almost too deep to be read": (
        changed().replace("1.0", "[" * 980 + "]" * 980),
        "got one of type list|not a model file",
    ),
    "a deep parameter": (
        changed(parameters={"w[0]": json.loads("[" * 900 + "]" * 900), "b": 1.0}),
        "got one of type list",
    ),
    "a BOM": ("\ufeff" + changed(), "not a model file"),
    "a lone surrogate": (changed(parameters={"\ud800": 1.0}), "only it has"),
    "terminal escapes": (changed(parameters={"\x1b[31m": 1.0}), r"only it has '\\x1b"),
    "a number of a million digits": (changed().replace("1.0", "1" * 10**6), "not a model file"),
    "a huge exponent": (changed().replace("1.0", "1e" + "9" * 10**5), "finite"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(path, name):
    text, says = BAD_FILES[name]
    path.write_text(text, encoding="utf-8")
    model = nn.Neuron(1, seed=0)
    before = model.state_dict()
    with pytest.raises(ValueError, match=says) as caught:
        model.load(path)
    assert isinstance(caught.value, MicrogradError)
    assert model.state_dict() == before


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a model file"):
        nn.Neuron(1).load(path)


def test_a_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError):
        nn.Neuron(1).load(path)


def test_another_architecture_is_refused_with_the_counts(path):
    nn.MLP(2, [3, 1]).save(path)
    with pytest.raises(ValueError, match="13 numbers for 17 parameters"):
        nn.MLP(2, [4, 1]).load(path)


@pytest.mark.parametrize("state", [3, None, [1.0, 0.0], "model.json"])
def test_what_is_no_dict_is_no_state(state):
    with pytest.raises(StateError, match="a state is a dict of numbers by their names, not"):
        nn.Neuron(1).load_state_dict(state)


def test_load_state_dict_takes_what_state_dict_gives():
    one, two = nn.Neuron(2, seed=0), nn.Neuron(2, seed=1)
    two.load_state_dict(one.state_dict())
    assert two.state_dict() == one.state_dict()
    with pytest.raises(ValueError, match="needs a finite number"):
        two.load_state_dict({**one.state_dict(), "b": Value(1.0)})


def test_parameters_of_one_name_are_refused_and_none_is_lost(path):
    class Key:
        def __repr__(self):
            return "key"

    model = nn.Module()
    model.w = {Key(): Value(1.0), Key(): Value(2.0)}
    for use in (model.state_dict, lambda: model.save(path), lambda: model.load_state_dict({})):
        with pytest.raises(state.StateError, match=r"two parameters are called 'w\[key\]'"):
            use()
    assert not path.exists()
    assert [p.data for p in model.parameters()] == [1.0, 2.0]


def test_a_link_is_followed_a_mode_is_kept_and_a_pipe_stays_a_pipe(tmp_path):
    import os
    import stat
    import threading

    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    state.write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    state.write_atomically(pipe, "through")
    reader.join()
    assert read == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    missing = tmp_path / "missing" / "x.json"
    with pytest.raises(FileNotFoundError) as caught:
        state.write_atomically(missing, "")
    assert caught.value.filename == str(missing)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and sparse files are POSIX")
def test_what_is_no_file_or_a_huge_one_is_refused_unread(tmp_path):
    model = nn.Neuron(1, seed=0)
    before = model.state_dict()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(10 * 2**30)
    for path, says in (
        (tmp_path / "pipe", "no file at all"),
        (tmp_path / "folder", "no file at all"),
        ("/dev/zero", "no file at all"),
        (tmp_path / "huge", "10,737,418,240 bytes"),
    ):
        with pytest.raises(MicrogradError, match=says):
            model.load(path)
    assert model.state_dict() == before


MEMORY = """
import resource, sys
from micrograd_like import MicrogradError, state
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    state.read_file(sys.argv[1])
except MicrogradError as error:
    assert "more brackets and names than numbers" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's kilobytes of memory")
@pytest.mark.parametrize(
    "part",
    ["{}", "[]", '{"a":{}}', '{"a":1}', "[1]", "[[[[[]]]]]", '{"":[]}', "1.5", '"ab"', '""',
     "names", "long names"],
)  # fmt: skip
def test_a_file_takes_memory_in_proportion_whatever_it_is_full_of(path, part):
    size = 8 * 2**20
    parts = [part] * (size // (len(part) + 1))
    if part.endswith("names"):
        form = '"{:x}":1' if part == "names" else '"{:010x}":1'
        parts = map(form.format, range(size // len(form)))
    more = ("{%s}" if part.endswith("names") else "[%s]") % ",".join(parts)
    path.write_text(changed()[:-1] + f', "more": {more}}}')
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True
    )
    assert 1024 * int(done.stdout) < 18 * size


def test_what_is_written_is_no_denser_than_what_is_read(path):
    for more in ([[1]] * 9999, [{"a": 1}] * 9999, {f"{i}": [0] for i in range(9999)}):
        state.write_file(path, {"layers[0].neurons[0].w[0]": 0.0}, more=more)
        assert state.read_file(path)["more"] == more
    with pytest.raises(MicrogradError, match="more brackets and names than numbers"):
        state.write_file(path, {}, more=[[]] * 99_999)
    assert state.read_file(path)["more"] == more


def test_what_is_too_large_to_be_read_is_not_written(path, monkeypatch):
    model = nn.Neuron(1, seed=0)
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(state, "MOST_BYTES", len(before))
    model.save(path)
    model.load(path)
    monkeypatch.setattr(state, "MOST_BYTES", len(before) - 1)
    with pytest.raises(MicrogradError, match="would have"):
        model.save(path)
    with pytest.raises(MicrogradError, match="at most"):
        model.load(path)
    assert path.read_bytes() == before


def test_an_integer_beyond_all_digits_is_refused():
    with pytest.raises(MicrogradError, match="finite"):
        nn.Neuron(1).load_state_dict({"w[0]": 10**5000, "b": 0.0})


def loads_whole_or_not_at_all(path, content):
    model = nn.Neuron(1, seed=0)
    before = model.state_dict()
    path.write_bytes(content)
    try:
        model.load(path)
    except MicrogradError:
        assert model.state_dict() == before
        return False
    assert all(math.isfinite(p.data) for p in model.parameters())
    return True


def test_a_file_cut_off_anywhere_is_refused(path):
    nn.Neuron(1, seed=0).save(path)
    content = path.read_bytes()
    for size in range(len(content) - 2):
        assert not loads_whole_or_not_at_all(path, content[:size])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts),
    max_leaves=6,
)


@given(data=st.data())
def test_an_edited_file_loads_whole_or_not_at_all(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "edited.json"
    content = bytearray(changed().encode())
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 3))):
            i = data.draw(st.integers(0, len(content) - 1))
            content[i : i + data.draw(st.integers(0, 3))] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b"NaN", b"1e999", b'"', b"[", b"{", b","])
            )
    else:
        tree = json.loads(content)
        place = data.draw(st.sampled_from([tree, tree["parameters"]]))
        name = data.draw(st.sampled_from([*place, "new"]))
        place[name] = data.draw(JSON)
        content = json.dumps(tree).encode()
    loads_whole_or_not_at_all(path, bytes(content))
