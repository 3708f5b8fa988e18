"""Functions of floats, written in Python, as JavaScript.

The operations of the table are spelled for Numba in a part of Python that is nearly JavaScript:
arithmetic, comparisons, choices, loops, and calls of the math module and of one another. So what
`numerics.py` has is not written a second time. What differs is seen to: NaN counts as true in
Python and as false in JavaScript, % has the sign of the divisor, and `Math` lacks some functions,
which are in `SCRIPTS`. The error function there is right to 4 units in the last place, and its
complement to 8; all else is as near to the engine as `Math` is to C's library.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from ..errors import InputError
from .rows import FUNCTIONS, text_of

# What a call becomes, by what it is of in Python: a function of JavaScript, or one of ours.
_CALLS: Final = {
    **{
        f"math.{name}": f"Math.{name}"
        for name in (
            *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "exp"),
            *("expm1", "floor", "hypot", "log", "log10", "log1p", "log2", "sin", "sinh", "sqrt"),
            *("tan", "tanh"),
        )
    },
    **{f"math.{name}": name for name in ("copysign", "erf", "erfc", "pow")},
    "abs": "Math.abs",
    "math.fabs": "Math.abs",
    "math.isfinite": "Number.isFinite",
    "math.isinf": "isInfinite",
    "math.isnan": "Number.isNaN",
    "max": "Math.max",
    "min": "Math.min",
    "float": "Number",
}
_NAMES: Final = {
    **dict.fromkeys(("inf", "INF", "math.inf"), "Infinity"),
    **dict.fromkeys(("nan", "NAN", "math.nan"), "NaN"),
    "math.pi": "Math.PI",
    "math.e": "Math.E",
}
_BOOLEAN = {"math.isnan", "math.isfinite", "math.isinf"}

SCRIPTS: Final = {
    "isInfinite": """\
function isInfinite(x) {
  return Math.abs(x) === Infinity;
}""",
    "copysign": """\
function copysign(x, y) {
  return y < 0 || Object.is(y, -0) ? -Math.abs(x) : Math.abs(x);
}""",
    "pow": """\
function pow(x, y) {
  // In IEEE 754 these are 1; in JavaScript they are NaN.
  return x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : x ** y;
}""",
    "modulo": """\
function modulo(x, y) {
  const rest = x % y;
  return rest === 0 ? copysign(0, y) : rest < 0 !== y < 0 ? rest + y : rest;
}""",
    "floorDivide": """\
function floorDivide(x, y) {
  const rest = x % y;
  const quotient = (x - rest) / y - (rest !== 0 && rest < 0 !== y < 0 ? 1 : 0);
  return quotient === 0 ? copysign(0, x / y) : Math.round(quotient);
}""",
    "erf": """\
function erf(x) {
  if (Math.abs(x) > 0.5) return x < 0 ? erfc(-x) - 1 : 1 - erfc(x);
  // 2/√π · (x - x³/3 + x⁵/(2! · 5) - x⁷/(3! · 7) + ...)
  let power = x, rest = 0;
  for (let n = 1; n < 14; n++) rest += (power *= (-x * x) / n) / (2 * n + 1);
  return 1.1283791670955126 * (x + rest);
}""",
    "erfc": """\
function erfc(x) {
  if (!(x >= 0.5)) return 1 - erf(x);
  if (x > 30) return 0;
  // The trapezoidal rule with steps of 1/2 for exp(-x²) · x/π · ∫ exp(-t²) / (x² + t²) dt
  // (Matta and Reichel 1971); exp(-x²) is computed from two parts of x, or x² would be rounded.
  let sum = 0.5 / (x * x);
  for (let t = 0.5; t < 6.5; t += 0.5) sum += Math.exp(-t * t) / (x * x + t * t);
  const high = Math.fround(x);
  const density = Math.exp(-high * high) * Math.exp((high - x) * (high + x));
  return density * x / Math.PI * sum - (x < 6 ? 2 / Math.expm1(4 * Math.PI * x) : 0);
}""",
}
_CALL = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\(")

# How tightly expressions bind.
_CHOICE, _OR, _AND, _EQUAL, _LESS, _SUM, _PRODUCT, _SIGN, _CALLED = range(9)
_Script = tuple[str, int]
_OPERATORS: Final[Mapping[type[ast.AST], tuple[str, int]]] = {
    ast.Add: ("+", _SUM), ast.Sub: ("-", _SUM), ast.Mult: ("*", _PRODUCT), ast.Div: ("/", _PRODUCT),
    ast.Eq: ("===", _EQUAL), ast.NotEq: ("!==", _EQUAL), ast.Lt: ("<", _LESS),
    ast.LtE: ("<=", _LESS), ast.Gt: (">", _LESS), ast.GtE: (">=", _LESS),
    ast.And: ("&&", _AND), ast.Or: ("||", _OR), ast.USub: ("-", _SIGN), ast.Not: ("!", _SIGN),
}  # fmt: skip


def number(x: float) -> str:
    """The number as JavaScript writes it: it has no other numbers than floats."""
    if math.isfinite(x):
        return repr(x).removesuffix(".0")
    return "NaN" if x != x else "-Infinity" if x < 0.0 else "Infinity"


def scripts(texts: Iterable[str]) -> list[str]:
    """The functions that these scripts call, and that those call, as JavaScript, by their names."""
    found: dict[str, str] = {}
    rest = list(texts)
    while rest:
        for name in _CALL.findall(rest.pop()):
            if name not in found and name in OURS:
                found[name] = SCRIPTS[name] if name in SCRIPTS else function(name)
                rest.append(found[name])
    return [found[name] for name in sorted(found)]


# The functions that a source may have, by name.
OURS: Final = frozenset({*SCRIPTS, *FUNCTIONS})


@cache
def function(name: str) -> str:
    """One of the compiler's functions of floats (`rows.FUNCTIONS`) as JavaScript."""
    (tree,) = ast.parse(text_of(name)).body
    assert isinstance(tree, ast.FunctionDef)
    arguments = [x.arg for x in tree.args.args]
    head = f"function {name}({', '.join(arguments)})"
    return "\n".join(_block(head, tree.body, set(arguments)))


@cache
def template(python: str) -> str:
    """A template of the table, which is an expression in Python, as one in JavaScript.

    Raises InputError for what this file does not know.
    """
    marked = re.sub(r"@(?=[^\W\d])", "argument_", python)
    try:
        text = _text(ast.parse(marked, mode="eval").body)
    except (SyntaxError, KeyError, TypeError) as error:
        raise InputError(f"{python!r} is not known in JavaScript: {error!r:.80}") from None
    return re.sub(r"\bargument_(?=[^\W\d])", "@", text)


def _block(head: str, body: Iterable[ast.stmt], known: set[str]) -> list[str]:
    """The lines of statements, in which these variables are known so far, with what is before."""
    lines = [line for x in body for line in _statement(x, known)]
    return [f"{head} {{", *[f"  {line}" for line in lines], "}"]


def _statement(x: ast.stmt, known: set[str]) -> list[str]:
    match x:
        case ast.Expr(ast.Constant(str())):  # what it is for
            return []
        case ast.Return(ast.expr() as value):
            return [f"return {_text(value)};"]
        case ast.Break():
            return ["break;"]
        case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)):
            each = [ast.Assign([t], value) for t, value in zip(targets, values, strict=True)]
            return [line for one in each for line in _statement(one, known)]
        case ast.Assign([target], value):
            name = _text(target)
            is_new = isinstance(target, ast.Name) and name not in known
            known.add(name)
            return [f"{'let ' * is_new}{name} = {_text(value)};"]
        case ast.AugAssign(target, op, value):
            sign, _ = _OPERATORS[type(op)]
            return [f"{_text(target)} {sign}= {_text(value)};"]
        case ast.If(test, [(ast.Return() | ast.Break()) as only], []):
            return [f"if ({_truth(test)[0]}) {line}" for line in _statement(only, known)]
        case ast.If(test, body, []):
            return _block(f"if ({_truth(test)[0]})", body, known)
        case ast.For(ast.Name(i), ast.Call(ast.Name("range"), bounds), body):
            texts = list(map(_text, bounds))
            first, last, step = {1: ["0", *texts, "1"], 2: [*texts, "1"], 3: texts}[len(texts)]
            how = f"{i} > {last}; {i}--" if step == "-1" else f"{i} < {last}; {i}++"
            return _block(f"for (let {i} = {first}; {how})", body, known)
        case ast.For(ast.Name(item), items, body):
            return _block(f"for (const {item} of {_text(items)})", body, known)
    raise TypeError(ast.unparse(x))


def _text(x: ast.expr, binding: int = _CHOICE) -> str:
    """An expression where one is needed that binds so tightly."""
    return _put(_script(x), binding)


def _script(x: ast.expr) -> _Script:
    """An expression, and how tightly it binds."""
    match x:
        case ast.Constant(bool(value)):
            return str(value).lower(), _CALLED
        case ast.Constant(int() | float() as value):
            return number(float(value)), _CALLED
        case ast.Name(name):
            return _NAMES.get(name, name), _CALLED
        case ast.Attribute():
            return _NAMES[ast.unparse(x)], _CALLED
        case ast.UnaryOp(ast.USub(), operand):
            return f"-{_text(operand, _CALLED)}", _SIGN
        case ast.UnaryOp(ast.Not(), operand):
            return f"!{_put(_truth(operand), _CALLED)}", _SIGN
        case ast.BinOp(ast.List() as left, ast.Add(), right):
            return f"[...{_text(left)}, ...{_text(right)}]", _CALLED
        case ast.BinOp(left, ast.Mod(), right):
            return f"modulo({_text(left)}, {_text(right)})", _CALLED
        case ast.BinOp(left, ast.FloorDiv(), right):
            return f"floorDivide({_text(left)}, {_text(right)})", _CALLED
        case ast.BinOp(left, ast.Pow(), right):
            return f"pow({_text(left)}, {_text(right)})", _CALLED
        case ast.BinOp(left, op, right):
            sign, binding = _OPERATORS[type(op)]
            return f"{_text(left, binding)} {sign} {_text(right, binding + 1)}", binding
        case ast.Compare(left, [op], [right]):
            sign, binding = _OPERATORS[type(op)]
            return f"{_text(left, binding + 1)} {sign} {_text(right, binding + 1)}", binding
        case ast.Compare(left, [op, *ops], [right, *rest]):
            one = ast.Compare(left, [op], [right])
            return _script(ast.BoolOp(ast.And(), [one, ast.Compare(right, ops, rest)]))
        case ast.BoolOp(op, values):
            sign, binding = _OPERATORS[type(op)]
            texts = [_put(_truth(value), binding) for value in values]
            return f" {sign} ".join(texts), binding
        case ast.IfExp(test, body, orelse):
            texts = [_put(_truth(test), _OR), _text(body, _OR), _text(orelse, _CHOICE)]
            return "{} ? {} : {}".format(*texts), _CHOICE
        case ast.Call(ast.Name("len"), [items]):
            return f"{_text(items)}.length", _CALLED
        case ast.Call(ast.Name("divide"), [left, right]):
            return _script(ast.BinOp(left, ast.Div(), right))
        case ast.Call(called, arguments):
            name = ast.unparse(called)
            if name not in _CALLS and name not in OURS:
                raise KeyError(name)
            return f"{_CALLS.get(name, name)}({', '.join(map(_text, arguments))})", _CALLED
        case ast.Subscript(items, ast.Slice(ast.expr() as first, None, None)):
            return f"{_text(items)}.slice({_text(first)})", _CALLED
        case ast.Subscript(items, place):
            return f"{_text(items)}[{_text(place)}]", _CALLED
        case ast.List(items):
            return f"[{', '.join(map(_text, items))}]", _CALLED
        case ast.ListComp(item, [ast.comprehension(_, ast.Call(ast.Name("range"), [count]))]):
            return f"Array({_text(count)}).fill({_text(item)})", _CALLED
        case _:
            raise TypeError(ast.unparse(x))


def _truth(x: ast.expr) -> _Script:
    """A condition. A number is one that is not 0, as NaN is: hence the != of JavaScript."""
    is_condition = isinstance(x, (ast.Compare, ast.BoolOp)) or (
        isinstance(x, ast.UnaryOp) and isinstance(x.op, ast.Not)
    )
    if is_condition or (isinstance(x, ast.Call) and ast.unparse(x.func) in _BOOLEAN):
        return _script(x)
    return f"{_text(x, _LESS)} != 0", _EQUAL


def _put(script: _Script, binding: int) -> str:
    """The script where one is needed that binds so tightly."""
    text, own = script
    return text if own >= binding else f"({text})"
