"""expressions.py: text becomes the graph that Python would build, or is refused at the place."""

import inspect
import math
import re
import threading
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import micrograd_like
from micrograd_like import Op, Value, errors, ops, topological_order
from micrograd_like.cli import expressions
from micrograd_like.cli.expressions import ExpressionError, functions, parse
from micrograd_like.errors import InputError, OperandError


def value(text, **values):
    return parse(text).build(values)[0].data


def build(text, values):
    """The graph, with 1 for the names that have no value."""
    parsed = parse(text)
    return parsed.build({**dict.fromkeys(parsed.names, 1.0), **values})


def refusal(text, **values):
    """The error, after checking that its caret stands where its column says."""
    with pytest.raises(ExpressionError) as caught:
        build(text, values)
    error = caught.value
    assert 0 <= error.column <= len(text)
    message, shown, caret = str(error).split("\n")
    assert message == error.message
    assert caret == " " * (len(caret) - 1) + "^"
    if text.isascii() and text.isprintable() and "…" not in shown:
        assert shown == f"  {text}"
        assert len(caret) == 3 + error.column
    return error


# --- what is understood ---------------------------------------------------------------------------


def test_the_neuron_has_its_names_in_order_and_the_documented_gradients():
    parsed = parse("tanh(w1*x1 + w2*x2 + b)")
    assert parsed.names == ("w1", "x1", "w2", "x2", "b")
    root, leaves = parsed.build(dict(w1=-3, w2=1, x1=2, x2=0, b=6.8813735870195432))
    root.backward()
    assert root.label == ""
    assert {name: leaf.label for name, leaf in leaves.items()} == {n: n for n in parsed.names}
    assert [leaves[n].grad for n in ("w1", "w2", "x1", "x2", "b")] == pytest.approx(
        [1.0, 0.0, -1.5, 0.5, 0.5]
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2+3", 5.0),
        ("10 - 4 - 3", 3.0),
        ("24/4/2", 3.0),
        ("2**3**2", 512.0),
        ("-7 % 3 * 2 + 7 % -4", 3.0),
        ("-2**2", -4.0),
        ("2**-1", 0.5),
        ("--2", 2.0),
        ("+-+2", -2.0),
        ("1 - -2", 3.0),
        ("2*(3 + 4)*(5 - 3)", 28.0),
        ("  ( ( 7 ) )  ", 7.0),
        ("1_000.5e-1", 100.05),
        (".5 + 5. + 1e3", 1005.5),
        ("max(1, 2) + maximum(1, 2) - min(1, 2) - minimum(1, 2)", 2.0),
        ("abs(-3) + pow(2, 3) + add(1, 2)", 14.0),
        ("leaky_relu(-1) + leaky_relu(-1, 0.5)", -0.51),
        ("logsumexp(0, 0, 0, 0)", math.log(4)),
        ("max(1, 5, 2) - min(4, 3, 9)", 2.0),
        ("hypot (3, 4)", 5.0),
    ],
)
def test_arithmetic_binds_as_in_python_and_numbers_alone_are_computed(text, result):
    parsed = parse(text)
    root, leaves = parsed.build({})
    assert root.data == pytest.approx(result, rel=1e-15)
    assert root.op is None
    assert leaves == {}


def test_a_name_used_twice_is_one_leaf_and_a_name_alone_is_the_root():
    root, leaves = parse("x*x + x").build({"x": 3})
    assert root.data == 12.0
    assert topological_order(root)[0] is leaves["x"]
    assert len(topological_order(root)) == 3
    root, leaves = parse("(x)").build({"x": 3})
    assert root is leaves["x"]


def test_pi_and_e_are_numbers_unless_they_have_values():
    parsed = parse("log(e) + cos(pi)*x")
    assert parsed.names == ("x",)
    root, leaves = parsed.build({"x": 3})
    assert (root.data, list(leaves)) == (-2.0, ["x"])
    root, leaves = parsed.build({"x": 3, "e": 1, "pi": 0})
    root.backward()
    assert (root.data, leaves["e"].grad, list(leaves)) == (3.0, 1.0, ["e", "pi", "x"])
    assert value("2*pi") == 2 * math.pi
    with pytest.raises(InputError, match="has no e: it has only x"):
        parse("pi*x").build({"x": 3, "e": 1})


def test_the_graph_is_the_one_that_operators_build():
    a, b = Value(2.0), Value(3.0)
    by_hand = 2 * a**3 - b / (1 - a) + -b
    parsed, _ = parse("2 * a**3 - b / (1 - a) + -b").build({"a": 2, "b": 3})
    for mine, theirs in zip(topological_order(parsed), topological_order(by_hand), strict=True):
        assert (mine.op, mine.data, mine.local_grads) == (
            theirs.op,
            theirs.data,
            theirs.local_grads,
        )


def test_names_may_be_greek_or_of_any_script_and_are_normalised_as_pythons_are():
    assert parse("α*β_1 + 変数 - café").names == ("α", "β_1", "変数", "café")
    parsed = parse("\N{MICRO SIGN} + \N{GREEK SMALL LETTER MU}")
    assert parsed.names == ("\N{GREEK SMALL LETTER MU}",)
    assert parsed.build({"\N{GREEK SMALL LETTER MU}": 2})[0].data == 4.0
    assert parse("cafe\N{COMBINING ACUTE ACCENT}").names == ("café",)


def test_the_functions_are_the_rows_that_the_package_exports():
    exported = {
        name: row
        for name in dir(micrograd_like)
        if isinstance(row := getattr(micrograd_like, name), Op)
    }
    also = {"max": ops.maximum, "min": ops.minimum}
    built_in = {name: row for name, row in functions().items() if row.name in ops.BUILTIN}
    assert built_in == {**exported, **also}


def test_a_row_of_the_users_is_a_function_too(made_up):
    made_up("cube", lambda x: x * x * x, lambda x, out: 3 * x * x)
    root, leaves = parse("cube(x) + cube(2)").build({"x": 3})
    root.backward()
    assert (root.data, leaves["x"].grad) == (35.0, 27.0)


def test_long_sums_and_wide_calls_are_no_deeper_than_short_ones():
    n = 5000
    text = f"tanh({' + '.join(f'w{i}*x' for i in range(n))} - 1)"
    root, leaves = parse(text).build({**{f"w{i}": 1 / n for i in range(n)}, "x": 1})
    assert root.data == pytest.approx(0.0, abs=1e-12)
    assert len(leaves) == n + 1
    assert value(f"logsumexp({', '.join(['0'] * 8000)})") == pytest.approx(math.log(8000))


DEEP = {
    "parentheses": ("(" * 49_999 + "x" + ")" * 49_999, 0.5),
    "calls": ("abs(" * 19_999 + "-x" + ")" * 19_999, 0.5),
    "calls of two": ("max(0," * 14_285 + "x" + ")" * 14_285, 0.5),
    "signs": ("-" * 99_999 + "x", -0.5),
    "both signs": ("+-" * 49_999 + "x", -0.5),
    "powers": ("1" + "**x" * 33_333, 1.0),
    "powers of signs": ("1" + "**-x" * 24_999, 1.0),
    "a product": ("*".join(["x"] * 50_000), 0.0),
    "groups under products": ("(" * 16_665 + "x" + "*x/x)" * 16_665, 0.5),
    "all at once": ("0*1+1**-tanh(" * 7000 + "x" + ")" * 7000, 1.0),
}


@pytest.mark.parametrize("name", DEEP)
def test_nesting_of_any_depth_works_at_once_and_on_a_thread_with_a_small_stack(name):
    text, expected = DEEP[name]
    assert 97_000 < len(text) <= expressions.MAX_LENGTH
    done = []
    before = threading.stack_size(256 * 1024)
    try:
        start = time.perf_counter()
        thread = threading.Thread(target=lambda: done.append(value(text, x=0.5)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done == [expected]
    assert time.perf_counter() - start < 10.0  # it takes half a second


# Python's own arithmetic on floats is the reference.

atoms = st.one_of(
    st.sampled_from("abc"),
    st.integers(0, 9).map(float).map(repr),
    st.floats(0.1, 10).map(repr),
)
spaces = st.sampled_from(["", "", " ", "  "])
texts = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, spaces, st.sampled_from(["+", "-", "*", "/", "%", "**"]), spaces, inner),
        st.tuples(st.sampled_from(["-", "+", "- "]), inner),
        st.tuples(st.just("("), spaces, inner, spaces, st.just(")")),
        st.tuples(st.just("abs("), inner, st.just(")")),
        st.tuples(st.just("pow("), inner, st.just(", "), inner, st.just(")")),
    ).map("".join),
    max_leaves=25,
)


@given(texts)
@example("a--b-+c**-2.0")
def test_any_arithmetic_gives_what_python_gives(text):
    names = {"a": 0.75, "b": -1.5, "c": 3.0}
    try:
        expected = eval(text, {"__builtins__": {"abs": math.fabs, "pow": pow}}, names)
    except (ArithmeticError, TypeError):  # which is fabs refusing a complex number
        assume(False)
    assume(isinstance(expected, float) and math.isfinite(expected))
    parsed = parse(text)
    try:
        root, _ = parsed.build({name: names[name] for name in parsed.names})
    except ExpressionError as error:
        assume("overflows" not in error.message)  # 1/(1e200*1e200), say, which Python makes 0.0
        raise
    assert root.data == expected


# --- what is refused ------------------------------------------------------------------------------

REFUSED = {
    "": (0, "empty"),
    "   ": (0, "empty"),
    "x^2": (1, r"\*\*"),
    "x²": (0, r"\*\*"),
    "w·x": (1, r"use \*"),
    "x = 3": (2, "name=number"),
    "tanh(x=3)": (6, "name=number"),
    "(x := 3)": (3, "':'"),
    "x < 3": (2, "comparisons"),
    "x != 3": (2, "comparisons"),
    "x.data": (1, r"'\.'"),
    "x[0]": (1, r"'\['"),
    "[x for x in y]": (0, r"'\['"),
    "{1: 2}": (0, "'{'"),
    "lambda x: x": (0, "keyword"),
    "x if y else z": (2, "keyword"),
    "not x": (0, "keyword"),
    "x and y": (2, "keyword"),
    "True": (0, "keyword"),
    "None": (0, "keyword"),
    "await x": (0, "keyword"),
    "'x'": (0, "not part"),
    'f"{x}"': (1, "not part"),
    "x @ y": (2, "'@'"),
    "x // y": (2, "'//'"),
    "~x": (0, "'~'"),
    "x; y": (1, "';'"),
    "x # y": (2, "'#'"),
    "x\\": (1, "not part"),
    "...": (0, "not part"),
    "a\nb": (1, "one line"),
    "a +\r b": (3, "one line"),
    "a\tb": (1, "spaces"),
    "a\0b": (1, "x00"),
    "a\udc80": (1, "udc80"),
    "a\N{RIGHT-TO-LEFT OVERRIDE}b": (1, "u202e"),
    "inf": (0, "no number"),
    "x*NaN": (2, "no number"),
    "1j": (1, "operator is missing"),
    "2x": (1, "operator is missing"),
    "2(x)": (1, "operator is missing"),
    "(x)(y)": (3, "operator is missing"),
    "x y": (2, "operator is missing"),
    "0x10": (1, "operator is missing"),
    "1.5.2": (3, "operator is missing"),
    "1__0": (1, "operator is missing"),
    "x +": (3, "operand is missing"),
    "x + * y": (4, "operand is missing"),
    "*x": (0, "operand is missing"),
    "x ** ": (4, "operand is missing"),
    "tanh(*x)": (5, "operand is missing"),
    "tanh(**x)": (5, "operand is missing"),
    "tanh(x,)": (7, "operand is missing"),
    "tanh(,x)": (5, "operand is missing"),
    "()": (1, "operand is missing"),
    "(x": (0, "never closed"),
    "tanh((x)": (4, "never closed"),
    "x)": (1, "closes nothing"),
    "x, y": (1, "comma"),
    "max((x, y))": (6, "comma"),
    "1,5": (1, "decimals"),
    "tanh": (0, r"write tanh\(...\)"),
    "x + exp * 2": (4, "function"),
    "tanhh(x)": (0, r"did you mean tanh\?"),
    "a + ln(x)": (4, "no function ln.* log,"),
    "x(y)": (0, "no function x"),
    "ieee_div(1, 0)": (0, "no function"),
    "affine(w, x, b)": (0, "no function"),
    "__import__(x)": (0, "no function"),
    "tanh()": (0, "tanh takes"),
    "x + tanh(x, y)": (4, "tanh takes"),
    "hypot(x, y, z)": (0, "hypot takes"),
    "max()": (0, "max needs at least one"),
    "logsumexp()": (0, "at least one"),
    "1e999": (0, "too large"),
    "x + " + "9" * 400: (4, "too large"),
    "9" * 6000: (0, "too large"),
    "x + 9**9**9**9": (8, "overflows"),
    "x*exp(1000)": (2, "overflows"),
    "1e300 * 1e300": (6, "overflows"),
    "x + 1/0": (5, "div is defined"),
    "x - (3 - 3)**(-(1))": (11, "pow is defined"),
    "αβ + log(-1)": (5, r"log is defined on \(0, inf\), got -1.0"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_expression_is_refused_at_the_place(text):
    column, says = REFUSED[text]
    error = refusal(text)
    assert error.column == column
    assert error.text == text
    with pytest.raises(ExpressionError, match=says):
        raise error


HOSTILE = {
    "open parentheses": "(" * 100_000,
    "open calls": "tanh(" * 20_000,
    "closing parentheses": ")" * 100_000,
    "powers of numbers": "9" + "**9" * 20_000,
    "a tower": "9**9**9**9",
    "a huge integer": "9" * 99_000,
    "too long": "x+" * 10**6 + "x",
    "a long bad name": "x" * 90_000 + "²",
    "a long function": "x" * 90_000 + "(1)",
    "commas": "logsumexp(" + "," * 50_000 + ")",
    "spaces": " " * 99_000,
    "dots": "." * 99_000,
    "underscores": "1" + "_1" * 40_000 + "_",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_promptly(name):
    start = time.perf_counter()
    error = refusal(HOSTILE[name])
    assert time.perf_counter() - start < 2.0
    assert all(len(line) <= 80 for line in str(error).split("\n")[1:])


@given(
    st.one_of(
        st.text(),
        st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")),
        st.lists(
            st.sampled_from(
                re.split(" ", "x y αβ 2 1.5 1e9 + - * / ** ( ) , tanh( max( log logsumexp( = _ ²")
            )
        ).map("".join),
    )
)
def test_of_any_text_comes_a_graph_or_the_librarys_own_error(text):
    try:
        parsed = parse(text)
        root, _ = parsed.build(dict.fromkeys(parsed.names, 0.5))
    except ExpressionError as error:
        root = str(error)
    assert isinstance(root, Value | str)


# --- values ---------------------------------------------------------------------------------------


def test_missing_and_unused_variables_are_named_all_at_once():
    parsed = parse("w1*x + w2*x + b")
    with pytest.raises(InputError, match=r"^no value for w2, b: give w2=NUMBER b=NUMBER$"):
        parsed.build({"w1": 1, "x": 2})
    with pytest.raises(InputError, match="the expression has no c, d: it has only w1, x, w2, b"):
        parsed.build({"w1": 1, "x": 2, "w2": 3, "b": 4, "c": 5, "d": 6})
    with pytest.raises(InputError, match="has no x: it has no variables"):
        parse("1").build({"x": 1})
    with pytest.raises(InputError, match=r"x7 and 992 more: give x0=NUMBER"):
        parse("+".join(f"x{i}" for i in range(1000))).build({})
    with pytest.raises(OperandError):
        parse("x").build({"x": "1"})


def test_a_domain_left_while_building_is_shown_under_the_operation_with_its_values():
    assert refusal("変 * (変 / (1 - 1.0))", 変=1).column == 7
    error = refusal("x*y + log(p)", x=1, y=2, p=-1)
    assert error.column == 6
    assert error.message == "log is defined on (0, inf), got -1.0 (label 'p')"
    assert refusal("(α + x) / (α - x) - 1", α=1, x=1).column == 8
    assert refusal("1 - (x ** (-(y)))", x=0, y=2).column == 7
    assert math.isinf(value("exp(x)", x=1000.0))


def test_the_partial_of_a_users_row_that_fails_is_shown_under_it(made_up):
    made_up("broken", lambda x: x, lambda x, out: math.log(x))
    assert refusal("1 + broken(x)", x=-1).column == 4


# --- the caret ------------------------------------------------------------------------------------


def below(text, column):
    return str(ExpressionError("", text, column)).split("\n")[1:]


def test_a_caret_stands_below_the_place_whatever_the_width_of_the_letters():
    assert below("α + ?", 4) == ["  α + ?", "      ^"]
    assert below("変数 + ?", 5) == ["  変数 + ?", "         ^"]
    assert below("e\N{COMBINING ACUTE ACCENT} + ?", 5) == [
        "  e\N{COMBINING ACUTE ACCENT} + ?",
        "      ^",
    ]
    assert below("a\n\x1b?", 3) == ["  a��?", "     ^"]
    assert below("a +", 3) == ["  a +", "     ^"]


def test_of_a_long_text_the_part_around_the_place_is_shown():
    text = "".join(map(str, range(100)))
    for column in range(len(text)):
        shown, caret = below(text, column)
        inside = shown[2:].strip("…")
        assert inside in text
        assert len(inside) >= 36
        assert len(shown) <= 76
        assert shown.startswith("  …") == (not text.startswith(inside))
        assert shown.endswith("…") == (not text.endswith(inside))
        assert shown[len(caret) - 1 :].startswith(text[column : column + 36])


def test_the_error_is_found_among_the_others_too():
    assert errors.ExpressionError is ExpressionError


def test_nothing_is_evaluated():
    source = inspect.getsource(expressions)
    for word in (" eval(", " exec(", " compile(", "import ast"):
        assert word not in source
