"""Pyodide for tests, in one process of Node: the package runs there as it does in a browser.

The environment variable PYODIDE names the folder of the npm package `pyodide`. Where it is not set
the tests are skipped, unless REQUIRE_PYODIDE is, as in CI.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import graphviz
import pytest

import micrograd_like

# Every program runs to its end before anything else does: `runPython` awaits nothing.
_SERVER = """
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
const [folder, packages] = process.argv.slice(1);
globalThis.crypto ??= (await import("node:crypto")).webcrypto;  // Node 18 lacks it
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const python = await loadPyodide({ stdout: () => {}, stderr: () => {} });
for (const [name, path] of Object.entries(JSON.parse(packages))) {
  python.FS.mkdirTree(`/packages/${name}`);
  python.mountNodeFS(`/packages/${name}`, path);
}
python.runPython("import sys; sys.path.insert(0, '/packages'); sys.dont_write_bytecode = True");
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try { answer = [python.runPython(JSON.parse(line)), ""]; }
  catch (error) { answer = [null, String(error)]; }
  process.stdout.write(JSON.stringify(answer) + "\\n");
}
"""


_NODE, _FOLDER = shutil.which("node"), os.environ.get("PYODIDE")
_MISSING = "" if _NODE and _FOLDER else "PYODIDE names no folder, or there is no Node on the PATH"

needed = pytest.mark.skipif(bool(_MISSING) and "REQUIRE_PYODIDE" not in os.environ, reason=_MISSING)
"""For tests that have more to set up than Pyodide."""


@cache
def _process() -> subprocess.Popen[str]:
    if not (_NODE and _FOLDER):
        if os.environ.get("REQUIRE_PYODIDE"):
            pytest.fail(f"REQUIRE_PYODIDE is set, but {_MISSING}", pytrace=False)
        pytest.skip(_MISSING)
    packages = {m.__name__: str(Path(str(m.__file__)).parent) for m in (micrograd_like, graphviz)}
    process = subprocess.Popen(
        [_NODE, "--input-type=module", "-e", _SERVER, _FOLDER, json.dumps(packages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    atexit.register(process.communicate)  # it ends with its input
    return process


def ran(program: str) -> Any:
    """The value of the last line of a program of Python that runs in Pyodide: text or a number.

    Raises RuntimeError with its traceback. Skips the test where there is no Pyodide.
    """
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps(program)}\n")
    process.stdin.flush()
    value, problem = json.loads(process.stdout.readline())
    if problem:
        raise RuntimeError(problem)
    return value


def rendered(source: str, suffix: str) -> bytes:
    """What `drawing.rendered` gives in Pyodide."""
    program = (
        "from micrograd_like.views.drawing import rendered\n"
        f"rendered({source!a}, {suffix!r}).decode()"
    )
    return str(ran(program)).encode()
