"""The table of the documents' errata, `notebooks/errata.md`, made from the catalogue.

`python tests/errata.py` writes it. Each row has a witness: a number that the engine computes, next
to what the printed formula gives.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from claims import (
    BUNDLED,
    Catalogue,
    Check,
    Numbers,
    Run,
    descend,
    descend_both_ways,
    flat,
    measure,
    read_catalogue,
    shape_of,
)

TABLE = Path(__file__).parent.parent / "notebooks" / "errata.md"

INTRODUCTION = """\
# Errata of the documents

The formulas of five texts on backpropagation, as printed and as they should be. The table is made
from the catalogue of their {claims} claims, `tests/data/seed_claims.json`, in which {errata} are
errata; `tests/test_documents.py` runs every check of every claim on the engine and fails if this
table is not the catalogue's. `python tests/errata.py` writes it anew.

The numbers in the last column are the engine's, computed when the table was made, in the case of
the catalogue that is named; "as printed" is what the printed formula gives there. Of an array
the element is shown at which the two differ most; indices count from 0. S is a sum over the
examples where L and C are means.

"""


def errata_table(catalogue: Catalogue) -> str:
    """The whole page."""
    errata = [claim for claim in catalogue.claims if claim["verdict"] == "erratum"]
    rows = [
        "| claim | document and location | printed | correct | witness |",
        "|---|---|---|---|---|",
    ]
    for claim in errata:
        number = claim["id"].partition("-")[0]
        cells = [
            claim["id"],
            f"{number}, {prose(claim['location'])}",
            formula(claim["latex"]),
            f"{formula(claim['correct_latex'])} <br>{prose(claim['correct'])}",
            witness(catalogue, claim),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    documents = [
        f"- {number}: {prose(document['title'])}"
        for number, document in catalogue.raw["documents"].items()
    ]
    introduction = INTRODUCTION.format(claims=len(catalogue.claims), errata=len(errata))
    return "\n".join([introduction + "\n".join(documents), "", *rows, ""])


# --- witnesses ------------------------------------------------------------------------------------


def witness(catalogue: Catalogue, claim: dict[str, Any]) -> str:
    """What the engine computes against what the claim says, in a cell of the table."""
    checks = catalogue.checks_of(claim["id"])
    wrong = [check for check in checks if check.kind.endswith("_not")]
    parts = [f"case {wrong[0].body['case']}: {contradiction(wrong[0])}"] if wrong else []
    parts += [ascent(check) for check in wrong[1:] if check.kind == "descent_not"]
    parts += [conflict(check) for check in checks if check.kind == "shape_conflict"]
    if not parts:
        parts = [f"no wrong number printed; case {checks[0].body['case']}: {instance(checks[0])}"]
    return "; ".join(parts)


def contradiction(check: Check) -> str:
    """The number of the engine's that differs most from the printed one."""
    _, got = next(measure(check))
    printed = check.body["printed"]
    if shape_of(got) != shape_of(printed):
        return f"{name_of(check)} = {digits(got)}, as printed {digits(printed)}"
    pairs = list(zip(flat(got), flat(printed), strict=True))
    worst = max(range(len(pairs)), key=lambda i: abs(pairs[i][0] - pairs[i][1]))
    ours, theirs = map(digits, pairs[worst])
    return f"{name_of(check, worst)} = {ours}, as printed {theirs}"


def ascent(check: Check) -> str:
    before, printed, correct = map(digits, descend_both_ways(check))
    return (
        f"a step along the printed gradient takes `{check.body['of']}` from {before} up to "
        f"{printed}, one along the engine's down to {correct}"
    )


def conflict(check: Check) -> str:
    body = check.body
    return (
        f"case {body['case']}: {prose(body['what'])}, {prose(body['why'])}: "
        f"{times(body['printed'])} and {times(body['other'])}"
    )


def instance(check: Check) -> str:
    """What the corrected statement says of the case."""
    body = check.body
    if check.kind == "descent":
        return f"`{body['of']}` falls, " + ", ".join(map(digits, descend(check)[0]))
    _, got = next(measure(check))
    if check.kind == "shape":
        return f"`{body['of']}` is {times(got)}"
    return f"{name_of(check, 0)} = {digits(flat(got)[0])}"


def name_of(check: Check, position: int | None = None) -> str:
    """What the check measures, of the element at a position in C order: `dL/dW1[0,1]`."""
    body = check.body
    run = Run(check.catalogue, body["case"])

    def element(name: str) -> str:
        return name if position is None else flat(run.names(name))[position]

    kind = check.kind.removesuffix("_not")
    if kind == "gradient":
        return f"`d{body['of']}/d{element(body['wrt'])}`"
    if kind == "elementwise_derivative":
        return f"`d{element(body['of'])}/d{element(body['wrt'])}`"
    if kind == "directional":
        return f"the derivative of `{element(body['of'])}` along a direction in `{body['wrt']}`"
    if kind == "jacobian":
        rows, columns = flat(run.names(body["of"])), flat(run.names(body["wrt"]))
        i, j = divmod(position or 0, len(columns))
        return f"`d{rows[i]}/d{columns[j]}`"
    return f"`{element(body['of'])}`"


# --- Markdown -------------------------------------------------------------------------------------


def digits(x: Numbers) -> str:
    if isinstance(x, list):
        return f"({', '.join(map(digits, x))})"
    return f"{x + 0.0:.6g}".replace("-", "\N{MINUS SIGN}", 1)


def times(shape: list[int]) -> str:
    return " × ".join(map(str, shape)) if len(shape) > 1 else f"({', '.join(map(str, shape))})"


def formula(latex: str) -> str:
    """LaTeX as GitHub's mathematics in a cell, where a pipe would end the cell."""
    without_pipes = latex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
    return f"$`{without_pipes}`$"


def prose(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    TABLE.write_text(errata_table(read_catalogue(BUNDLED)), encoding="utf-8")
    print(f"wrote {TABLE.parent.name}/{TABLE.name}")
