"""Whether the notebooks as they are committed show what the package draws now.

    python tests/stale_pictures.py notebooks FOLDER

FOLDER has the same notebooks, just executed. The words and numbers in each drawing are compared,
not where they stand: that differs with the renderer. What changes from run to run, such as figures
of speed, is printed by cells and not drawn.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from pathlib import Path

_PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")


def drawings(notebook: Path) -> list[list[str]]:
    """The texts of each drawing in the outputs of a notebook, in alphabetical order."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    pictures = [base64.b64decode(p).decode() for page in pages for p in _PICTURE.findall(page)]
    return [sorted(map(html.unescape, re.findall(r"<text[^>]*>([^<]*)", p))) for p in pictures]


def main() -> None:
    committed, executed = map(Path, sys.argv[1:])
    notebooks = sorted(committed.glob("*.ipynb"))
    stale = [path.name for path in notebooks if drawings(path) != drawings(executed / path.name)]
    if stale:
        sys.exit(f"execute anew, their drawings are of another version: {', '.join(stale)}")
    print(f"{sum(len(drawings(path)) for path in notebooks)} drawings are those of this version")


if __name__ == "__main__":
    main()
