"""What tests of the commands share: a table, the files that were written, and refusals."""

import os
import re

ROWS = [(x, y, "in" if x * x + y * y < 5 else "out") for x in range(-3, 4) for y in range(-3, 4)]
CSV = "x,y,kind\n" + "".join(f"{x},{y},{kind}\n" for x, y, kind in ROWS)


def write(name, text):
    with open(name, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


def files():
    return sorted(
        os.path.relpath(os.path.join(folder, name))
        for folder, _, names in os.walk(".")
        for name in names
    )


def assert_refused(result, says, before):
    status, out, err = result
    assert status == 2
    assert "accuracy" not in out
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert files() == before
