"""Graphviz where no program can be started: in Pyodide, which is Python in a browser or in Node.

`viz_js/backend.js` is Graphviz itself, compiled to WebAssembly by the project viz-js: the pictures
are those of `dot`. `viz_js/LICENSE` says where it comes from.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ..errors import RendererError

IN_PYODIDE = sys.platform == "emscripten"

# Its start awaits what is there at once, and Python cannot wait for promises: the same, unawaited.
_UNAWAITED = (
    ("async function ", "function "),
    ("await ", ""),
    (
        "WebAssembly.instantiate(binary,imports)",
        "{instance:new WebAssembly.Instance(new WebAssembly.Module(binary),imports)}",
    ),
    ("import.meta.url", "''"),
    ("export default Module", "return Module()"),
)

# Gives [picture, ""] or ["", what is wrong]: an exception could end all of Pyodide.
_RENDER = """
(graphviz) => (source, format) => {
  const call = (name, ...args) =>
    graphviz.ccall(name, "number", args.map((arg) => typeof arg), args);
  graphviz.agerrMessages = [];
  try {
    const size = graphviz.lengthBytesUTF8(source) + 1;
    const text = call("malloc", size);
    graphviz.stringToUTF8(source, text, size);
    const graph = call("viz_read_one_graph", text);
    const context = call("viz_create_context");
    const failed = !graph || call("viz_layout", context, graph, "dot");
    const picture = failed ? 0 : call("viz_render", context, graph, format);
    if (!picture) return ["", graphviz.agerrMessages.join("")];
    const result = graphviz.UTF8ToString(picture);
    for (const used of [picture, text]) call("free", used);
    call("viz_free_layout", context, graph);
    call("viz_free_graph", graph);
    call("viz_free_context", context);
    return [result, ""];
  } catch (error) {
    return ["", String(error)];
  }
}
"""


def drawn_by_javascript(source: str, suffix: str) -> str:
    """What Graphviz makes of a source, in the format of a suffix: svg, or another text.

    It cannot be stopped before it is done. Raises RendererError.
    """
    picture, problem = _graphviz()(source, suffix).to_py()
    if not picture:
        _graphviz.cache_clear()  # its memory is as the failure left it
        problem = " ".join(problem.rpartition("Error: ")[2].split())  # warnings come first
        raise RendererError(
            f"Graphviz in Pyodide cannot write {suffix!r:.60}: {problem[:500]} (it writes svg)"
        )
    return str(picture)


@cache
def _graphviz() -> Any:
    """The function of JavaScript that draws. Only Pyodide has what makes it."""
    from importlib.resources import files

    from pyodide.code import run_js

    module = files(__package__).joinpath("viz_js", "backend.js").read_text(encoding="utf-8")
    for awaited, at_once in _UNAWAITED:
        module = module.replace(awaited, at_once)
    return run_js(_RENDER)(run_js(f"(() => {{{module}}})()"))
