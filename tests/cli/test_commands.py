"""commands.py: a refusal is one line with exit status 2, whatever stdout can take."""

import os
import re
import subprocess
import sys

import pytest
from commandline import assert_refused

BAD_OPTIONS = {
    "no such data": (["train", "nothing"], "'nothing' is neither moons"),
    "no such file": (["train", "nothing.csv"], "nothing.csv: No such file"),
    "no data": (["train"], "DATA"),
    "no such command": (["fly"], "fly"),
    "no such option": (["train", "moons", "--fly"], "--fly"),
    "epochs": (["train", "moons", "--epochs", "0"], "epochs"),
    "epochs in words": (["train", "moons", "--epochs", "many"], "many"),
    "batch size": (["train", "moons", "--batch-size", "-1"], "batch_size"),
    "learning rate": (["train", "moons", "--lr", "-0.1"], "lr"),
    "test fraction": (["train", "moons", "--test-fraction", "1"], "fraction"),
    "hidden": (["train", "moons", "--hidden", "16,x"], "widths"),
    "no hidden": (["train", "moons", "--hidden", "0"], "at least 1"),
    "activation": (["train", "moons", "--activation", "magic"], "magic"),
    "binary activation": (["train", "moons", "--activation", "add"], "more than one argument"),
    "label": (["train", "moons", "--label", "x"], "--label is for CSV"),
    "divergence": (["train", "moons", "--lr", "1e300", "--activation", "relu"], "epoch 1"),
    "no model": (["predict", "nothing.json", "nothing.csv"], "nothing.json: No such file"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_wrong_option_is_one_line_and_status_2_and_leaves_no_files(run, name):
    argv, says = BAD_OPTIONS[name]
    assert_refused(run(*argv), says, [])


def test_python_m_micrograd_like_is_the_same_command(folder):
    result = subprocess.run(
        [sys.executable, "-m", "micrograd_like", "train", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("micrograd-like: 'nothing' is neither")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "train"])
@pytest.mark.parametrize("stdout", ["ascii", "nobody reads"])
def test_a_stdout_that_cannot_show_or_take_it_all_is_no_failure(command, stdout, folder):
    argv = [] if command == "show" else ["train", "moons", "--epochs", "2", "--out", "here"]
    process = subprocess.Popen(
        [sys.executable, "-m", "micrograd_like", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    if stdout == "nobody reads":
        process.stdout.close()
        err = process.stderr.read()
        process.wait()
    else:
        _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert os.path.exists("here/model.json") == (command == "train")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["trian", "moons"], "did you mean train?"),
        (["train", "moons", "--engine", "compield"], "did you mean compiled?"),
        (["eval", "tahn(x)", "x=1"], "did you mean tanh?"),
        (["play", "spirla"], "did you mean spiral?"),
        (["train", "moons", "--activation", "rleu"], "did you mean relu?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_right_one(argv, wanted, run):
    status, out, err = run(*argv)
    assert (status, out) == (2, "")
    assert wanted in err


COMMANDS = ["train", "predict", "play", "sample", "draw", "eval", "step", "derive"]


def test_the_commands_are_known(run):
    _, out, _ = run("--help")
    assert re.findall(r"^    ([a-z]+) ", out, re.MULTILINE) == sorted(COMMANDS, key=out.index)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_defaults_functions_and_activations(command, run):
    status, out, err = run(command, "--help")
    text = " ".join(out.split())
    assert (status, err) == (0, "")
    if command in ("train", "play"):
        assert "tanh, sigmoid, softplus, relu" in text
        assert text.count("(default:") >= 8
        for option in ("--epochs", "--seed", "--batch-size", "--hidden"):
            assert option in text or (command, option) == ("play", "--epochs")
    elif command in ("sample", "predict"):
        assert text.count("(default:") == (3 if command == "sample" else 2)
    else:
        assert "Functions: abs, acos," in text
        assert "* / % **" in text
