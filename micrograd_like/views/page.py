"""Pages that need nothing but themselves, such as `player` makes: what they have in common.

Their templates have `{{names}}` in the place of what changes; `page.html` is the head of all.
"""

from __future__ import annotations

import html
import json
import os
import re
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import RendererError
from ..state import write_atomically
from .webassembly import IN_PYODIDE


class Page:
    """A page. In a notebook it shows itself; `save` writes it to a file.

    `html` is the whole page, `title` says what it is of.
    """

    def __init__(self, page: str, title: str) -> None:
        self.html = page
        self.title = title

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file (UTF-8), whole or not at all. Raises OSError."""
        write_atomically(path, self.html)

    def framed(self, title: str, style: str) -> str:
        """The page in a sandboxed frame, as HTML: many notebooks run scripts nowhere else."""
        return (
            f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" '
            f'srcdoc="{html.escape(self.html)}" style="{style};border:0"></iframe>'
        )


def opened(save: Callable[[Path], Any], prefix: str, suffix: str) -> Path:
    """Save to a temporary file and open it in the browser. Raises RendererError in Pyodide."""
    if IN_PYODIDE:
        raise RendererError("no browser sees the files of Pyodide: show what it is, or `save` it")
    with tempfile.NamedTemporaryFile(prefix=prefix, suffix=suffix, delete=False) as file:
        path = Path(file.name)
    save(path)
    webbrowser.open(path.as_uri())
    return path


def filled(package: str, template: str, title: str, data: Any, **parts: str) -> str:
    """The text of a page: a template of the package with its title, its data, and other parts."""
    from importlib.resources import files  # takes a tenth of what importing the package does

    parts |= {
        "title": html.escape(title),
        "data": json.dumps(data, separators=(",", ":")).replace("<", r"\u003c"),
    }
    head, text = (
        files(room).joinpath(name).read_text(encoding="utf-8")
        for room, name in ((__package__, "page.html"), (package, template))
    )
    text = text.replace("{{head}}", head.rstrip("\n"))
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)
    return text.encode("utf-8", "replace").decode()  # half a character in a label is "?"
