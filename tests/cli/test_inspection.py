"""inspection.py: eval, draw, step and derive, and errors that point at the place."""

import re
import subprocess
import sys

import pytest
from commandline import assert_refused, files, read

NEURON = ("tanh(w1*x1 + w2*x2 + b)", "w1=-3", "w2=1", "x1=2", "x2=0", "b=6.8813735870195432")


def assert_refused_at(result, says, place):
    """Three lines: the message, the expression, and a caret in the column of `place`."""
    status, out, err = result
    assert (status, out) == (2, "")
    message, shown, caret = err.rstrip("\n").split("\n")
    assert re.match(f"micrograd-like: .*{says}", message), err
    assert shown[len(caret) - 1 :].startswith(place), err
    assert caret.strip() == "^"
    assert files() == []


def test_eval_prints_every_node_and_ends_with_the_value(run):
    status, out, err = run("eval", *NEURON)
    assert (status, err) == (0, "")
    header, *rows, last = out.splitlines()
    assert header.split() == ["node", "formula", "value", "gradient"]
    assert {len(row) for row in rows} == {len(header)}
    cells = {row.split()[0]: row.split() for row in rows}
    assert list(cells) == ["w1", "x1", "v1", "w2", "x2", "v2", "v3", "b", "v4", "v5"]
    assert cells["v1"][1:3] == ["w1·x1", "-6.0"]
    assert cells["v5"][1:2] == ["tanh(v4)"]
    assert [float(cells[name][-1]) for name in ("w1", "w2", "x1", "x2", "b")] == pytest.approx(
        [1.0, 0.0, -1.5, 0.5, 0.5]
    )
    assert last == f"value = {float(cells['v5'][2])!r}"


def test_eval_prints_the_side_that_is_not_taken_too(run):
    status, out, _ = run("eval", "where(greater(x,1),x*y,x+2)", "x=0.5", "y=3")
    cells = {row.split()[0]: row.split()[1:] for row in out.splitlines()[1:-1]}
    assert (status, list(cells)) == (0, ["x", "v1", "y", "v2", "v3", "v4"])
    assert cells["v4"] == ["where(v1,", "v2,", "v3)", "2.5", "1.0"]
    assert cells["v2"] == ["x·y", "1.5", "0.0"]


def test_eval_of_numbers_alone_prints_the_value(run):
    assert run("eval", "2+3") == (0, "value = 5.0\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        ["-x*o", "x=3", "o=2"],
        ["--", "-x*o", "x=3", "o=2"],
        ["-o*x", "o=3", "x=2"],
        ["-(o*x)", "-o", "a.dot", "o=3", "x=2"],
        ["-o", "a.dot", "-x * o", "x=3", "o=2"],
        ["-x*o", "x=3", "-o", "a.dot", "o=2"],
        ["-o", "a.dot", "--", "-x*o", "x=3", "o=2"],
        ["--2*-x*o/2", "x=3", "o=2"],
    ],
)
def test_an_expression_may_begin_with_a_minus_and_options_may_stand_anywhere(run, argv):
    drawn = "a.dot" in argv
    status, out, err = run("draw" if drawn else "eval", *argv)
    assert (status, err) == (0, "")
    assert "-6.0" in (read("a.dot") if drawn else out.splitlines()[-1])


def test_an_expression_that_begins_like_an_option_is_not_computed_unless_it_follows_two_dashes(run):
    _, out, err = run("eval", "-h*x", "h=3", "x=2")  # refused, or help, as the Python may be
    assert "value =" not in out
    assert "--help" in out + err
    assert_refused_at(run("draw", "-o*x", "o=3", "x=2"), "not part of an expression", "=3")
    assert run("eval", "--", "-h*x", "h=3", "x=2")[1].endswith("value = -6.0\n")
    assert run("draw", "--", "-o*x", "o=3", "x=2")[1].startswith("<")
    assert files() == []


@pytest.mark.parametrize(
    ("text", "says", "place"),
    [
        ("x ^ 2", r"use \*\* for powers", "^"),
        ("x + * 2", "operand is missing", "* 2"),
        ("2*tanhh(x)", "did you mean tanh", "tanhh"),
        ("x - log(x - 5)", r"log is defined .*-3\.0", "log"),
        ("α + 1/(x - x)", "div is defined", "/("),
        ("9**9**9**9", "overflows", "**9**9"),
        ("(" * 10_000 + "x" + ")" * 9_999, "never closed", "("),
        ("__import__('os').system('true')", "no function", "__import__"),
        ("x\n+1", "one line", "�"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "draw", "step"])
def test_a_wrong_expression_has_a_caret_under_the_place(run, command, text, says, place):
    variables = [f"{name}=2" for name in "αx" if name in text]
    out = [] if command == "eval" else ["-o", "out.html"]
    assert_refused_at(run(command, text, *variables, *out), says, place)


def test_an_expression_may_be_nested_as_deeply_as_it_is_long(run):
    parentheses = "(" * 49_000 + "x" + ")" * 49_000
    assert run("eval", parentheses, "x=2")[1].endswith("value = 2.0\n")
    signs = run("eval", "-" * 3_001 + "2*x", "x=2")[1].splitlines()
    assert (len(signs), signs[-1]) == (4, "value = -4.0")
    calls = "tanh(" * 3_000 + "x" + ")" * 3_000
    for command, first in (("eval", "node"), ("step", "forward"), ("derive", "∂v3000/∂x = ")):
        status, out, err = run(command, calls, "x=2")
        assert (status, err) == (0, "")
        assert out.splitlines()[-1 if command == "derive" else 0].startswith(first)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["w1*x + w2*x + b", "w1=1", "x=2"], "no value for w2, b: give w2=NUMBER b=NUMBER"),
        (["x", "x=1", "y=2", "z=3"], "no y, z: it has only x"),
        (["x", "x=1", "x=2"], "x is given twice"),
        (["µ", "µ=1", "μ=2"], "μ is given twice"),
        (["x", "x=one"], "x=one: a finite number"),
        (["x", "x="], "x=: a finite number"),
        (["x", "x=inf"], "x=inf: a finite number"),
        (["x", "x=nan"], "x=nan: a finite number"),
        (["x", "x=1e999"], "a finite number"),
        (["x", "y"], "'y' is not name=NUMBER"),
        (["x", "-x"], "'-x' is not name=NUMBER"),
        (["x", "1=2"], "'1=2' is not name=NUMBER"),
        (["x", "=2"], "'=2' is not name=NUMBER"),
        (["x", "x=1", "--fly"], "unrecognized arguments: --fly"),
        (["x", "x=1", "--", "--fly"], "'--fly' is not name=NUMBER"),
        ([], "required: EXPRESSION "),
    ],
)
def test_missing_unused_and_wrong_variables_are_named_in_one_line(run, argv, says):
    assert_refused(run("eval", *argv), says, [])


def test_draw_writes_a_picture_with_the_gradients_in_it(run):
    status, out, err = run("draw", *NEURON, "-o", "neuron.svg")
    assert (status, out, err) == (0, "wrote neuron.svg\n", "")
    svg = read("neuron.svg")
    assert "<svg" in svg
    for word in ("w1", "x2", "tanh", "-1.5", "0.7071"):
        assert word in svg
    assert run("draw", *NEURON, "--direction", "TB")[1].startswith("<")
    assert run("draw", *NEURON, "--out", "neuron.dot")[1] == "wrote neuron.dot\n"
    assert files() == ["neuron.dot", "neuron.svg"]


def test_draw_without_a_file_prints_the_svg_alone(run):
    status, out, err = run("draw", "α*x", "α=1", "x=2")
    assert (status, err) == (0, "")
    assert out.startswith(("<?xml", "<svg"))
    assert out.endswith("</svg>\n")
    assert "&#945;" in out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-o", "neuron.bmp"], "bmp"),
        (["-o", "nowhere/neuron.dot"], "nowhere"),
        (["-o"], "argument"),
        (["--direction", "up"], "up"),
    ],
)
def test_a_file_that_draw_cannot_write_is_one_line(run, argv, says):
    assert_refused(run("draw", "x*x", "x=2", *argv), says, [])


def test_step_prints_both_passes_or_writes_them_as_a_page(run):
    status, out, err = run("step", "x*y", "x=2", "y=-3")
    assert (status, err) == (0, "")
    assert re.search(r"v1 = x·y = 2\.0 · \(-3\.0\) = -6\.0", out)
    assert re.search(r"∂v1/∂x .*-3\.0", out)
    assert run("step", "x*y", "x=2", "y=-3", "-o", "steps.html")[:2] == (0, "wrote steps.html\n")
    assert read("steps.html").lower().startswith("<!doctype html>")
    assert_refused(
        run("step", "x*y", "x=2", "y=-3", "-o", "table.csv"), "end in .html", ["steps.html"]
    )


@pytest.mark.parametrize("command", ["eval", "draw", "step", "derive"])
def test_commands_on_expressions_survive_a_reader_who_has_gone(command, folder):
    text = " + ".join(f"x*{i}" for i in range(60))
    process = subprocess.Popen(
        [sys.executable, "-m", "micrograd_like", command, text, "x=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(), err) == (0, b"")


def test_derive_prints_the_derivation_in_symbols(run):
    assert run("derive", "tanh(w1*x1 + w2*x2 + b)", "--wrt", "w1,w2") == (
        0,
        "v4 = w1 · x1 + w2 · x2 + b\n"
        "v5 = tanh(v4)\n"
        "δ4 = 1 - v5²\n"
        "∂v5/∂w1 = δ4 · x1\n"
        "∂v5/∂w2 = δ4 · x2\n",
        "",
    )
    assert run("derive", "-x*2 + log(α)**2", "--wrt=α")[1].endswith("∂v5/∂α = 2 · v3 / α\n")
    status, out, _ = run("derive", "x**2*y")
    assert status == 0
    assert out.splitlines()[-2:] == ["∂v2/∂x = 2 · y · x", "∂v2/∂y = v1"]


def test_derive_writes_latex(run):
    status, out, err = run("derive", "tanh(w1*x)", "--wrt", "w1", "--latex")
    assert (status, err) == (0, "")
    assert out.startswith("\\begin{aligned}\n")
    assert out.endswith("&= \\left(1 - v_{2}^{2}\\right) \\cdot x\n\\end{aligned}\n")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["x*y", "--wrt", "z"], "'z' is not in the expression: it has x, y"),
        (["x*y", "--wrt", "x,"], "'' is not in the expression"),
        (["x*y", "--wrt"], "--wrt"),
        (["2*3"], "no names"),
        (["x*y", "x=1"], "y=NUMBER"),
        (["log(x)", "x=-1"], "log is defined"),
    ],
)
def test_derive_refuses_in_one_line(run, argv, says):
    status, out, err = run("derive", *argv)
    assert (status, out) == (2, "")
    assert says in err.splitlines()[0]


def test_no_argument_is_lost_after_an_option_with_a_value(run):
    assert run("draw", "-o", "a.dot", "x*y", "x=2", "y=3")[:2] == (0, "wrote a.dot\n")
    assert run("derive", "--wrt", "x", "x*y")[1].endswith("∂v1/∂x = y\n")
