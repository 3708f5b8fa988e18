"""Untrusted text: a label, a header or an expression is text wherever it goes, and never code."""

import ast
import builtins
import contextlib
import html.parser
import io
import json
import keyword
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrograd_like import MicrogradError, Value, derive, explain, nn, ops, steps
from micrograd_like import compile as compile_program
from micrograd_like.cli.expressions import parse
from micrograd_like.compiler import compile_step
from micrograd_like.losses import mse
from micrograd_like.views import drawing
from micrograd_like.views.drawing import draw
from micrograd_like.views.names import latex_name
from micrograd_like.views.pages import player

CASES = int(os.environ.get("CASES", "0"))  # a longer run, by hand

NASTY = [
    *keyword.kwlist, *keyword.softkwlist, *(name for name in dir(builtins) if "a" in name),
    "__class__", "__import__", "__builtins__", "__debug__", "__name__", "__doc__", "self",
    "np", "numpy", "math", "X", "W1", "dW1", "Z1", "A1", "Y", "gradient", "values", "examples",
    "outputs", "program", "batch", "run", "empty", "data", "places", "places1", "ones", "ones3",
    "c1", "t1", "t1_2", "v1", "i0", "i1", "k", "i", "terms3", "njit", "intrinsic", "ir", "add",
    "tanh", "tanh_", "sigmoid_", "logsumexp_rows_", "relu", "inf", "nan", "float64", "range",
    '"""', "'''", "\\", "\\\n", "\n", "\r\n", "\x00", "\x1b[31m", "\x9b31m", "\x07", "\x7f",
    "\u2028", "\u2029", "\u202e", "\ufeff", "\ud800", "\U000e0041", "#", "# -*- coding: utf-7 -*-",
    "x\nimport os", '"""\nimport os\n"""', "x = __import__('os').system('true')", "x);exit(",
    r"\N{LATIN SMALL LETTER A}", "ｅval", "ﬁ", "𝐝𝐞𝐟", "ｗ", "ª", "ſ", "K", "µ", "ℌ", "x²", "٣",
    "x[0]", "x[1]", "x[99999999999999999999]", "x" + "1" * 5000, "layers[0].neurons[0].w[0]",
    "layers[0].neurons[0].__class__", "neurons[" + "9" * 5000 + "].b", "{}", "{0}", "%s", "@x", "@",
    "<b>", "</b>", "<script>alert(1)</script>", "</script>", "<!--", "-->", "]]>", "<![CDATA[",
    "</title>", "</svg>", "<img src=x onerror=alert(1)>", "&lt;", "&", "&#0;", "javascript:alert()",
    '" onload="alert(1)', "' onload='alert(1)", "|", "{a|b}", r"\N", r"\G", r"\L", r"\n", "]", ";",
    r"\input{/etc/passwd}", r"\write18{true}", "^^5cinput", "$", "$$", "%", "~", "_", "__", "}{",
    r"\end{aligned}", r"\catcode`\%=0", "{{data}}", "{{svg}}", "\\u003c", "=1+1", "@SUM(1)", "",
]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=12),
    st.lists(st.sampled_from(NASTY), min_size=2, max_size=3).map("".join),
)
BACKENDS = ["numpy", "python"]


def often(count):
    return settings(max_examples=CASES or count)


def graph(labels):
    """Matrix products, masks, rows of each kind: what the compiler has names for."""
    a, b, c, d, e, f = labels
    x = [Value(0.5, a), Value(-0.25, b), Value(1.5, c)]
    v = x[0] * x[1] + x[2].tanh()
    v.label = d
    w = (v * x[0]).sigmoid() + v.relu() * x[1].exp() + ops.maximum(x[0], v)
    w.label = e
    root = w * v + ops.logsumexp(x[0], v, x[2]) * float("inf") * 0.0 + x[1] / x[2]
    root.label = f
    return x, root


PLAIN = ["p", "q", "r", "s", "t", "u"]


# --- generated source -----------------------------------------------------------------------------

# All that a program may mention beside its own variables, which are assigned to.
ATTRIBUTES = {
    "np", "T", "ravel", "reshape", "take", "sum", "transpose", "fadd", "outer", *re.findall(
        r"\w+",
        "abs arccos arccosh arcsin arcsinh arctan arctan2 arctanh cos cosh empty exp expm1 full "
        "heaviside hypot inf log log1p logaddexp maximum minimum multiply nan ones sign sin sinh "
        "sqrt tan tanh acos acosh asin asinh atan atan2 atanh copysign erf erfc isfinite isinf pow",
    ),
}  # fmt: skip
LOOPS = Path(ops.__file__).parent / "compiler" / "loops.py"
HEADER = {
    *("ir", "float64", "int64", "njit", "intrinsic", "make_array", "populate_array"),
    *("inf", "nan", "INF", "NAN", "math", "np", "annotations"),
}  # fmt: skip


def assert_only_known_names(source, constants=frozenset()):
    """Nothing is called, read or imported but rows, NumPy and what the program itself defines."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    defined = {function.name for function in functions} | HEADER
    assert "program" in defined
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert ast.unparse(node) in {
                "from __future__ import annotations", "import math", "from math import inf, nan",
                "from math import inf as INF, nan as NAN",
                "import numpy as np", "from llvmlite import ir",
                "from numba import float64, int64, njit", "from numba.extending import intrinsic",
                "from numba.np.arrayobj import make_array, populate_array",
            }  # fmt: skip
        elif isinstance(node, ast.Expr):
            assert node.value.value == "Written by micrograd_like from a graph of scalars."
        else:
            assert isinstance(node, ast.FunctionDef)
    for function in functions:
        if function.decorator_list and ast.unparse(function.decorator_list[0]) == "intrinsic":
            # It stands in the printer as it is here.
            assert ast.get_source_segment(source, function) in LOOPS.read_text(encoding="utf-8")
            continue
        assert not any(
            isinstance(n, (ast.Import, ast.Global, ast.Lambda)) for n in ast.walk(function)
        )
        stored = {a.arg for a in function.args.args}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                stored.add(node.id)
            elif isinstance(node, ast.FunctionDef):
                stored |= {node.name, *(a.arg for a in node.args.args)}
        assert not stored & {"np", "len", "float", "__builtins__", "__import__", "__debug__"}
        assert "math" not in stored or "import math" not in source
        known = (
            stored | defined | set(constants) | {"len", "float", "abs", "range", "max", "Sequence"}
        )
        for node in ast.walk(function):
            if isinstance(node, ast.Name):
                assert node.id in known, (node.id, source)
            elif isinstance(node, ast.Attribute):
                assert node.attr in ATTRIBUTES, (node.attr, source)
            elif isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else None
                # What is called is not what a label named.
                assert name is None or name not in stored - defined or name == "code"


def agree(labels, backend):
    x, root = graph(labels)
    program = compile_program(root, x, x, backend=backend)
    _, plain = graph(PLAIN)
    twin_x, plain = graph(PLAIN)
    expected = compile_program(plain, twin_x, twin_x, backend=backend)([0.5, -0.25, 1.5])
    assert repr(program([0.5, -0.25, 1.5])) == repr(expected)
    assert_only_known_names(program.source, program._constants)
    return program


@pytest.mark.parametrize("backend", BACKENDS)
@often(15)
@given(labels=st.lists(TEXT, min_size=6, max_size=6))
def test_a_label_never_becomes_code(backend, labels):
    program = agree(labels, backend)
    if backend == "numpy":
        assert_is_plain_latex(program.equations())


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_nasty_label_becomes_code_in_any_place(backend):
    for k in range(0, len(NASTY), 3 if not CASES else 1):
        agree([*NASTY[k : k + 3], *NASTY[k : k + 3], *PLAIN][:6], backend)


def test_no_nasty_label_becomes_code_in_loops():
    pytest.importorskip("numba")
    from micrograd_like.compiler.lift import lift
    from micrograd_like.compiler.loops import emit_loops
    from micrograd_like.compiler.names import input_arrays
    from micrograd_like.compiler.tape import record

    def source(labels):
        x, root = graph(labels)
        lifted = lift(record([root], x), input_arrays([xi.label for xi in x]), {})
        return emit_loops(lifted, [("outputs", 0)]).source

    plain = source(PLAIN)
    for k in range(0, len(NASTY), 6 if not CASES else 1):
        text = source([*NASTY[k : k + 6], *PLAIN][:6])
        assert_only_known_names(text)
        assert text.count("\n") == plain.count("\n")


def test_compiled_steps_have_labels_as_text_too():
    pytest.importorskip("numpy")
    for k in range(0, len(NASTY), 9 if not CASES else 1):
        model = nn.MLP(2, [2, 1], seed=0)
        for p, label in zip(model.parameters(), NASTY[k:], strict=False):
            p.label = label
        step = compile_step(model, mse, ([0.5, -1.0], 1.0))
        assert_only_known_names(step.source, step.function.__wrapped__.__globals__)


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_of_any_length_take_time_in_proportion(backend):
    n = 100_000
    for label in (
        "1" * n + "x",
        "[1]" * (n // 3) + "x",
        "layers[0].neurons[0]." * (n // 21),
        "w_" * n,
    ):
        x = Value(2.0, label)
        assert compile_program(x * x, [x], backend=backend)([3.0]) == 9.0
        assert len(draw(x * x).source) < 10_000
        assert label[0] in derive(x * x, x).text


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_name_of_a_users_row_never_becomes_code(backend, made_up):
    if backend == "numpy":
        pytest.importorskip("numpy")
    for name in NASTY:
        if not name or name in ops.BUILTIN:
            continue  # which are refused
        double = made_up(name, lambda x: 2.0 * x, lambda x, out: 2.0)
        x, y = Value(3.0, "x"), Value(float("nan"), "y")
        program = compile_program(double(x) + x * float("inf") * y, [x, y], backend=backend)
        assert_only_known_names(program.source, program._constants)
        program = compile_program(double(x), [x], [x], backend=backend)
        assert [float(v) for v in (program([3.0])[0], program([3.0])[1][0])] == [6.0, 2.0]


@pytest.mark.parametrize("backend", [*BACKENDS, "numba"])
def test_two_rows_of_one_name_are_two(backend, made_up):
    pytest.importorskip(backend if backend != "python" else "json")
    one = made_up("same", lambda x: 2.0 * x, lambda x, out: 2.0)
    two = made_up("same", lambda x: 3.0 * x, lambda x, out: 3.0)
    rows = made_up("logsumexp_rows", lambda x: 5.0 * x, lambda x, out: 5.0)
    x = Value(1.0, "x")
    root = one(x) + two(x) + rows(x)
    assert compile_program(root, [x], backend=backend)([1.0]) == root.data == 10.0


# --- pictures and pages ---------------------------------------------------------------------------


def structure(svg):
    """Tags and attributes' names, without the texts: what a label must not change."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in ("text", "title"):
            found.append((tag, tuple(sorted(name.rpartition("}")[2] for name in element.attrib))))
        for name, value in element.attrib.items():
            assert not name.rpartition("}")[2].startswith("on")
            assert "href" not in name or value == ""
    return found


def assert_labels_are_text_in_svg(labels):
    x, root = graph(labels)
    svg = draw(root, collapse="none", parameters=x).svg
    elements = {e.tag.rpartition("}")[2] for e in ElementTree.fromstring(svg).iter()}
    assert elements <= {"svg", "g", "a", "title", "text", "polygon", "path", "polyline", "ellipse"}
    y, plain = graph(PLAIN)
    assert len(structure(svg)) == len(structure(draw(plain, collapse="none", parameters=y).svg))


def has_renderer():
    try:
        return bool(draw(Value(1.0)).svg)
    except MicrogradError:
        return False


@pytest.mark.skipif(not has_renderer(), reason="Graphviz is not installed")
def test_labels_are_text_in_svg():
    for i in range(0, len(NASTY) - 6, 60 if not CASES else 1):
        assert_labels_are_text_in_svg(NASTY[i : i + 6])


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = ["html"]
        self.texts = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            assert name not in ("href", "src") or value == "data:,"

    def handle_data(self, data):
        self.texts.setdefault(self.tags[-1], []).append(data)

    def handle_comment(self, data):
        raise AssertionError(data)


@often(10)
@given(labels=st.lists(TEXT, min_size=6, max_size=6))
def test_labels_are_text_in_the_page_of_the_steps(labels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "rendered", lambda *_: b"<svg></svg>")
        page = _Page(player(graph(labels)[1]).html)
        plain = _Page(player(graph(PLAIN)[1]).html)
    assert page.tags == plain.tags
    scripts, others = page.texts["script"], plain.texts["script"]
    place = next(i for i, text in enumerate(scripts) if text.startswith("{"))
    data = scripts.pop(place)
    assert others.pop(place).startswith("{")
    assert scripts == others
    assert "<" not in data
    shown = {whole for _, whole, *_ in json.loads(data)["nodes"]}
    assert {label for label in labels if label} <= shown


# --- LaTeX and text -------------------------------------------------------------------------------

MACROS = {
    f"\\{name}"
    for name in [
        *r"\{}$&#%_ ,",
        *re.findall(
            r"\w+",
            """backslash wedge sim partial cdot times surd mathrm mathbf text texttt textstyle left
            right frac sqrt sum begin end infty odot top lVert rVert ln exp max min sin cos tan sinh
            cosh tanh arctan arcsin arccos hat tilde bar breve dot ddot check grave acute mathring
            alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma
            tau upsilon phi chi psi omega nabla Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi
            Omega""",
        ),
    ]
}


def assert_is_plain_latex(latex):
    """Known macros alone, braces in pairs, no ^^ notation, and nothing that comments out a line."""
    for macro in re.findall(r"\\(?:[A-Za-z]+|.|$)", latex, re.DOTALL):
        assert macro in MACROS, macro
    bare = re.sub(r"\\(?:[A-Za-z]+|.)", "", latex, flags=re.DOTALL)
    assert not set(bare) & set("#%$~")
    assert "^^" not in bare
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert all(c.isprintable() or c == "\n" for c in latex)


def assert_is_lines_for_a_terminal(text):
    assert all(c.isprintable() or c == "\n" or 0x2066 <= ord(c) <= 0x2069 for c in text)


def assert_labels_are_text(labels):
    x, root = graph(labels)
    derivation = derive(root, x)
    _, plain = graph(PLAIN)
    assert_is_plain_latex(derivation.latex)
    assert_is_lines_for_a_terminal(derivation.text)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        explain(x[0], root)
    assert_is_lines_for_a_terminal(text.getvalue())
    assert str(steps(root)).count("\n") == str(steps(plain)).count("\n")
    assert "\x1b" not in str(steps(root))
    assert_is_lines_for_a_terminal(repr(x[0]))
    for refused in (lambda: ops.log(Value(-1.0, labels[0])), lambda: bool(x[0])):
        with pytest.raises(MicrogradError) as caught:
            refused()
        assert_is_lines_for_a_terminal(str(caught.value))


@often(30)
@given(labels=st.lists(TEXT, min_size=6, max_size=6))
def test_labels_are_text_in_derivations_and_messages(labels):
    assert_labels_are_text(labels)


@often(300)
@given(TEXT)
def test_the_latex_of_a_name_is_plain(name):
    assert_is_plain_latex(latex_name(name))


# --- expressions and the terminal -----------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from(
        ["x", "y1", "1", ".5", "1e3", "1e308", "9", "**", "*", "/", "+", "-", "(", ")", ",", " ",
         "tanh", "log", "sqrt", "max", "µ", "0", "_", "lambda", "__import__", "'", ".", "[", ";"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


def assert_is_understood_or_refused(text):
    try:
        parsed = parse(text)
        parsed.build(dict.fromkeys(parsed.names, 0.5))
    except MicrogradError as error:
        assert_is_lines_for_a_terminal(getattr(error, "message", str(error)))


@often(300)
@given(st.one_of(PIECES, TEXT, st.binary(max_size=20).map(lambda b: b.decode("latin-1"))))
def test_any_text_is_an_expression_or_refused(text):
    assert_is_understood_or_refused(text)


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "-" * 100_000 + "x", "x" * 100_000, "9**" * 30_000 + "9", "1e308*10",
     "f(" * 50_000, "1" * 100_000, "0." + "1" * 99_000, "x+" * 49_999 + "x", "," * 100_000,
     "1_" * 50_000, "\u0301" * 100_000, "x" + "\u0301" * 99_999, "\ufdfa" * 100_000, "x" * 10**7],
    ids=lambda text: f"{text[:6]}…{len(text)}",
)  # fmt: skip
def test_long_and_deep_expressions_are_bounded(text):
    assert_is_understood_or_refused(text)


def printed_on_a_terminal(command, folder):
    """What a command prints on a terminal, and its status."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "micrograd_like", *command], stdout=slave, stderr=slave, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    os.close(slave)
    text = b""
    with contextlib.suppress(OSError):  # the end of a pseudo-terminal is an error
        while chunk := os.read(master, 4096):
            text += chunk
    os.close(master)
    return text.decode(), process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_no_file_or_argument_sends_a_terminal_escape_sequences(tmp_path):
    pytest.importorskip("pandas", reason="needs the extra data")
    escape, path = "\x1b]0;owned\x07\x9b31m", tmp_path / "d\x1b[31m.csv"
    path.write_text(f"x,{escape}\n" + f'1,"a{escape}"\n2,"b{escape}"\n' * 10, encoding="utf-8")
    bad = tmp_path / "bad.csv"
    bad.write_text(f"x{escape},y\n1{escape},a\n", encoding="utf-8")
    for command, status, says in (
        (["train", path.name, "--epochs", "1", "--out", "o\x1b[31m"], 0, "accuracy"),
        (["predict", "o\x1b[31m/model.json", path.name], 0, "row,prediction"),
        (["predict", "o\x1b[31m/model.json", bad.name], 2, "micrograd-like: bad.csv"),
        ([f"--{escape}"], 2, "micrograd-like: "),
    ):
        text, found = printed_on_a_terminal(command, tmp_path)
        assert found == status, text
        assert says in text
        assert_is_lines_for_a_terminal(text.replace("\r\n", "\n").replace("\r", "\n"))


def test_the_checks_find_what_they_are_for():
    for source in (
        "import os\ndef program(values):\n    return 1\n",
        "def program(values):\n    return eval('1')\n",
        "def program(values):\n    return values.__class__\n",
        "def program(values):\n    np = 1\n    return np\n",
        "def program(values):\n    x = 1\n    return x(2)\n",
    ):
        with pytest.raises(AssertionError):
            assert_only_known_names(source)
    for latex in (r"\input{x}", "^^5c", "a % b", "{", "}{", r"\write18", "a\x1b"):
        with pytest.raises(AssertionError):
            assert_is_plain_latex(latex)
    with pytest.raises(AssertionError):
        _Page("<p onclick='x'>")
    with pytest.raises(AssertionError):
        assert_is_lines_for_a_terminal("\x1b[31m")
