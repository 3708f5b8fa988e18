"""JavaScript for tests: one process of Node runs all the programs, or a browser does."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

# Numbers travel as the hexadecimal digits of their bytes, which NaN and -0 survive.
_ANSWER = """
const floats = (hex) => [...new Float64Array(
  Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)).buffer)];
const hex = (xs) => [...new Uint8Array(Float64Array.from(xs).buffer)].map(
  (byte) => byte.toString(16).padStart(2, "0")).join("");
const answer = async ({ source, rows }) => {
  const { program } = await import("data:text/javascript," + encodeURIComponent(source));
  return rows.map((row) => {
    try { return hex([program(...row.map(floats))].flat(Infinity)); }
    catch (error) { return String(error); }
  });
};
"""
_SERVER = """
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const results = await answer(JSON.parse(line)).catch((error) => String(error));
  process.stdout.write(JSON.stringify(results) + "\\n");
});
"""
_IN_A_PAGE = """
const [question, done] = arguments;
answer(JSON.parse(question)).then(done, (error) => done(String(error)));
"""

Row = Sequence[Sequence[float]]  # the arguments of a call, each of them numbers


@cache
def _node() -> subprocess.Popen[str] | None:
    program = shutil.which("node")
    if program is None:
        return None
    return subprocess.Popen(  # ends with its input, when the tests do
        [program, "-e", _ANSWER + _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def computed(source: str, rows: Sequence[Row], driver: Any = None) -> list[list[float]]:
    """What the source's program gives for rows of arguments: the numbers, in one list each.

    It runs in Node, or in the browser of the driver. Raises RuntimeError for what it throws. Skips
    the test where there is no Node.
    """
    packed = [[struct.pack(f"<{len(xs)}d", *xs).hex() for xs in row] for row in rows]
    question = json.dumps({"source": source, "rows": packed})
    if driver:
        answer = driver.execute_async_script(_ANSWER + _IN_A_PAGE, question)
    else:
        answer = json.loads(_asked(question))
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return [_unpacked(text) for text in answer]


def _asked(question: str) -> str:
    node = _node()
    if node is None:
        pytest.skip("there is no Node on the PATH")
    assert node.stdin is not None
    assert node.stdout is not None
    node.stdin.write(f"{question}\n")
    node.stdin.flush()
    return node.stdout.readline()


def _unpacked(text: str) -> list[float]:
    if not set(text) <= set("0123456789abcdef"):
        raise RuntimeError(text)
    return list(struct.unpack(f"<{len(text) // 16}d", bytes.fromhex(text)))
