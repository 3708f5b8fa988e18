"""__init__.py: the public surface, and what importing it brings along."""

import builtins
import subprocess
import sys
import types

import pytest

import micrograd_like
from micrograd_like import MicrogradError, Op, engine, errors, losses, nn, ops, optim


def test_importing_loads_the_standard_library_and_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import micrograd_like; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "micrograd_like" in loaded
    assert loaded - {"micrograd_like"} <= set(sys.stdlib_module_names)


def test_no_module_bears_the_name_of_a_public_function():
    for name in [*micrograd_like.__all__, "abs", "compile", "pow"]:
        assert hasattr(micrograd_like, name)
        is_module = isinstance(getattr(micrograd_like, name), types.ModuleType)
        assert is_module == (name in {"nn", "losses", "optim", "training"})


def test_every_op_of_the_reference_is_a_function_of_the_package():
    named_otherwise = {"max": "maximum", "min": "minimum"}
    table = [
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "neg",
        "exp",
        "log",
        "log2",
        "log10",
        "log1p",
        "expm1",
        "sqrt",
        "tanh",
        "sigmoid",
        "relu",
        "leaky_relu",
        "softplus",
        "abs",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "erf",
        "max",
        "min",
        "hypot",
        "clip",
        "mod",
        "xlogy",
        "gelu",
        "silu",
        "elu",
        "logaddexp",
    ]
    for name in table:
        row = getattr(micrograd_like, named_otherwise.get(name, name))
        assert isinstance(row, Op)
        assert row is ops.TABLE[name]


def test_a_star_import_leaves_the_builtins_alone():
    namespace: dict[str, object] = {}
    exec("from micrograd_like import *", namespace)
    del namespace["__builtins__"]
    assert namespace["Value"] is micrograd_like.Value
    assert {name for name in namespace if hasattr(builtins, name)} == set()


@pytest.mark.parametrize("module", [engine, losses, nn, ops, optim], ids=lambda m: m.__name__)
def test_a_star_import_of_a_module_shadows_nothing_of_the_users_by_what_it_imports(module):
    namespace = {"__name__": "users"}
    exec(f"from {module.__name__} import *", namespace)
    brought = {*namespace} - {"__name__", "__builtins__"}
    of_micrograds = {"Value", "random"} if module is nn else set()  # which imports these
    assert brought == ({*dir(module)} - {"NATIVE"}) | of_micrograds


def test_every_error_is_the_librarys_and_the_builtin_that_fits():
    children = [c for c in vars(errors).values() if isinstance(c, type) and c is not MicrogradError]
    children = [c for c in children if issubclass(c, MicrogradError)]
    assert len(children) >= 5
    for child in children:
        assert issubclass(
            child, (ValueError, TypeError, ImportError, RuntimeError, ArithmeticError)
        )


def test_only_the_table_and_its_numerics_say_what_a_derivative_is():
    """The engine's own ops list no function of the math module."""
    import inspect

    from micrograd_like import engine, gradients, losses, nn

    for module in (engine, nn, losses, gradients):
        source = inspect.getsource(module)
        for function in ("cosh", "erf", "exp"):
            assert f"math.{function}(" not in source


def test_what_looks_at_graphs_and_trains_is_loaded_when_it_is_asked_for():
    """With it, importing the library would take more than twice as long."""
    program = (
        "import sys, micrograd_like as m\n"
        "later = {'checks', 'compiler', 'training', 'views'}\n"
        "loaded = {name for name in later if f'micrograd_like.{name}' in sys.modules}\n"
        "assert not loaded, loaded\n"
        "assert all(callable(getattr(m, name)) for name in m._LATER)\n"
        "assert set(m._LATER) - {'compile'} <= set(m.__all__)\n"
        "assert set(m._LATER) <= set(dir(m))\n"
        "assert not hasattr(m, 'no_such_name')\n"
        "assert m.datasets.moons and m.plots.loss_curve and {'datasets', 'plots'} <= {*dir(m)}\n"
        "assert m.training.fit and 'training' in m.__all__\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
