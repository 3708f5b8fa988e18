"""The page that plays the steps, clicked through in a real browser.

Every page that a test opens must load nothing but itself and leave no error on the console.
Without a browser these tests are skipped, unless REQUIRE_BROWSER is set, as it is in CI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from micrograd_like import Value, losses, nn, tanh, topological_order
from micrograd_like.views.pages import player
from micrograd_like.views.stepping import steps

# What a reader sees: where the page is, the table, and the parts of the picture that stand out.
SEEN = """
const text = (id) => document.getElementById(id).textContent;
const marked = (name) => [...document.querySelectorAll("#picture ." + name)];
const ids = (name) => marked(name).map((element) => element.id).sort();
return {
  where: text("where"), caption: text("caption"), lines: text("lines"), count: text("count"),
  rows: [...document.querySelectorAll("tbody tr")].map((row) => ({
    name: row.cells[0].textContent, label: row.cells[0].title, value: row.cells[1].textContent,
    gradient: row.cells[2].textContent, exact: [1, 2].map((i) => row.cells[i].title),
    current: row.getAttribute("aria-current"), open: row.cells[2].className.includes("open"),
  })),
  now: ids("now"), near: ids("near"), live: ids("live"),
  slider: document.getElementById("slider").value,
  valuetext: document.getElementById("slider").getAttribute("aria-valuetext"),
};
"""


def neuron() -> Value:
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    y = tanh(w1 * x1 + w2 * x2 + b)
    y.label = "y"
    return y


def network() -> Value:
    model = nn.MLP(2, [4, 1], seed=0)
    loss = losses.mse([model([1.0, -2.0]), model([0.5, 2.0])], [1.0, -1.0])
    loss.label = "loss"
    return loss


class Page:
    """A page in the browser, in the words of the tests."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path
        self.url = path.as_uri()
        driver.get(self.url)

    def seen(self) -> dict[str, Any]:
        return self.driver.execute_script(SEEN)  # type: ignore[no-any-return]

    def find(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def click(self, *names: str) -> None:
        for name in names:
            self.find(name).click()

    def walk(self, name: str, times: int) -> list[dict[str, Any]]:
        """What is seen after each of so many clicks, which the page itself makes: much faster."""
        script = (
            "const [name, times] = arguments; const seen = () => {" + SEEN + "}; const all = [];"
        )
        script += "for (let i = 0; i < times; i++) {"
        script += "document.getElementById(name).click(); all.push(seen()); } return all;"
        return self.driver.execute_script(script, name, times)  # type: ignore[no-any-return]

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def wait(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda _: condition())

    def style(self, selector: str, name: str) -> str:
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        return self.driver.execute_script(script, selector, name)  # type: ignore[no-any-return]


@pytest.fixture
def open_page(driver: Any, tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Opens a page, and afterwards holds it to silence on the console and in the network."""
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)
    pages: list[Page] = []

    def opener(text: str) -> Page:
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(text, encoding="utf-8")
        pages.append(Page(driver, path))
        return pages[-1]

    yield opener
    driver.switch_to.default_content()
    complaints = [e["message"] for e in driver.get_log("browser")]
    assert not complaints
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    ours = {page.url for page in pages} | {"about:srcdoc"}
    foreign = [url for url in requests if url not in ours and not url.startswith("data:")]
    assert not foreign
    assert ours & set(requests), "the log shows no request at all, not even for the page"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    driver.set_window_size(1280, 800)


# --- the steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [neuron, network])
def test_clicking_through_every_step_shows_the_numbers_of_the_engine(
    make: Callable[[], Value], open_page: Callable[[str], Page]
) -> None:
    root = make()
    passes = steps(root)
    nodes = [event.node for event in passes.forward]
    page = open_page(player(root, collapse="none").html)
    start = page.seen()
    pages = page.walk("next", len(passes))
    value = dict.fromkeys(nodes, "")
    gradient = dict.fromkeys(nodes, "")
    for event, seen in zip(passes, pages, strict=True):
        if event.phase == "backward":
            gradient[event.node] = repr(event.adjoint if event.edges else event.after)
            gradient |= {edge.parent: repr(edge.after) for edge in event.edges}
        else:
            value[event.node] = repr(event.after)
        assert [row["exact"] for row in seen["rows"]] == [[value[n], gradient[n]] for n in nodes]
        current = [row["label"] for row in seen["rows"] if row["current"] == "step"]
        assert current == [event.name]
        k = nodes.index(event.node)
        assert seen["now"] == [f"node-{k}"]
        assert seen["live"] == sorted(f"edge-{k}-{edge.operand}" for edge in event.edges)
        assert seen["near"] == sorted({f"node-{nodes.index(e.parent)}" for e in event.edges})
        said = re.sub(r"\s", "", seen["lines"])
        written = event.edges[:3] if event.phase == "backward" else ()
        for line in [event.formula.splitlines()[0], *map(str, written)]:
            assert re.sub(r"\s", "", line) in said
    root.backward()
    for node, row in zip(nodes, pages[-1]["rows"], strict=True):
        assert float(row["value"]) == pytest.approx(node.data, rel=1e-3)
        assert float(row["gradient"]) == pytest.approx(node.grad, rel=1e-3)
        assert row["exact"] == [repr(node.data), repr(node.grad)]
        assert not row["open"]
    assert page.walk("previous", len(passes)) == [*pages[-2::-1], start]


def test_the_picture_says_what_the_table_says_and_gives_nothing_away(
    open_page: Callable[[str], Page],
) -> None:
    root = neuron()
    root.backward()
    page = open_page(player(root).html)
    for name in ["first", *["next"] * 20, *["previous"] * 20]:
        (seen,) = page.walk(name, 1)
        drawn = page.driver.execute_script("""
          return [...Array(10).keys()].map((k) => [...document.querySelectorAll(
            `#node-${k} text`)].slice(-4).map((text) => text.textContent.trim()));
        """)
        shown = [["data", row["value"], "grad", row["gradient"]] for row in seen["rows"]]
        assert drawn == shown
    picture = page.driver.execute_script("return document.getElementById('picture').innerHTML")
    assert "xlink:title" not in picture
    assert "<title" not in picture
    assert re.search("grad[^<]*</text>[^<]*<text[^>]*>[^<]*[0-9]", picture) is None


def test_a_mouse_gets_through_as_well(open_page: Callable[[str], Page]) -> None:
    root = neuron()
    page = open_page(player(root).html)
    for event in steps(root):
        page.click("next")
        assert page.seen()["where"].endswith(f"step {event.index + 1} of 20")
        assert event.name in page.seen()["caption"]
    root.backward()
    want = [repr(node.grad) for node in topological_order(root)]
    assert [row["exact"][1] for row in page.seen()["rows"]] == want


def test_a_gradient_is_marked_as_incomplete_until_its_last_contribution(
    open_page: Callable[[str], Page],
) -> None:
    x = Value(3.0, label="x")
    y = x.exp()
    z = y * y + x
    z.label = "z"
    page = open_page(player(z).html)
    rows = [state["rows"][0] for state in page.walk("next", 8)[4:]]
    assert [row["gradient"] for row in rows] == ["1.0", "1.0", "807.9", "807.9"]
    assert [row["open"] for row in rows] == [True, True, True, False]


def test_a_leaf_shows_the_gradient_that_it_held_before(open_page: Callable[[str], Page]) -> None:
    x = Value(3.0, label="x")
    x.grad = 5.0
    page = open_page(player(2 * x).html)
    page.click("last")
    assert page.seen()["rows"][0]["exact"] == ["3.0", "7.0"]
    assert "x.grad += " in page.seen()["lines"]


def test_nan_and_infinities_are_shown(open_page: Callable[[str], Page]) -> None:
    x = Value(0.0, label="x")
    page = open_page(player(x.sqrt() * float("inf")).html)
    page.click("last")
    assert [row["value"] for row in page.seen()["rows"]] == ["0.0", "0.0", "nan"]
    assert [row["gradient"] for row in page.seen()["rows"]] == ["inf", "inf", "1.0"]


# --- the controls ---------------------------------------------------------------------------------


def test_every_control_moves_where_it_says(open_page: Callable[[str], Page]) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(player(neuron()).html)
    assert page.seen()["count"] == "0 / 20"
    assert page.seen()["caption"] == "Nothing is computed yet"
    for action, place in [
        (lambda: page.click("previous"), 0),
        (lambda: page.click("next", "next", "next"), 3),
        (lambda: page.click("previous"), 2),
        (lambda: page.click("last"), 20),
        (lambda: page.click("next"), 20),
        (lambda: page.click("first"), 0),
        (lambda: page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT), 2),
        (lambda: page.press(Keys.ARROW_LEFT), 1),
        (lambda: page.press(Keys.END), 20),
        (lambda: page.press(Keys.HOME), 0),
        (lambda: page.find("slider").send_keys(Keys.ARROW_RIGHT), 1),
        (lambda: page.find("slider").send_keys(Keys.END), 20),
        (lambda: page.find("slider").send_keys(Keys.ARROW_LEFT), 19),
        (lambda: page.find("slider").click(), 10),
    ]:
        action()
        seen = page.seen()
        assert (seen["count"], seen["slider"]) == (f"{place} / 20", str(place))
        assert seen["valuetext"] == f"{seen['where']}: {seen['caption']}"


def test_play_goes_to_the_end_and_stops_and_pause_holds(open_page: Callable[[str], Page]) -> None:
    from selenium.webdriver.common.keys import Keys

    x = Value(3.0, label="x")
    page = open_page(player(x.exp()).html)
    page.find("speed").send_keys("6")
    page.click("play")
    assert page.find("play").accessible_name == "Pause"
    page.wait(lambda: page.seen()["count"] == "4 / 4")
    page.wait(lambda: page.find("play").accessible_name == "Play")
    page.driver.execute_script("document.activeElement.blur()")
    page.press(" ")
    assert page.find("play").accessible_name == "Pause"
    assert page.find("now").get_attribute("aria-live") == "off"
    page.wait(lambda: page.seen()["count"] in ("1 / 4", "2 / 4"))
    page.press(" ")
    assert page.find("play").accessible_name == "Play"
    assert page.find("now").get_attribute("aria-live") == "polite"
    held = page.seen()
    page.driver.execute_async_script("setTimeout(arguments[0], 500)")
    assert page.seen() == held
    page.find("play").send_keys(" ")
    page.press(Keys.HOME)
    assert page.find("play").accessible_name == "Play"
    assert page.seen()["count"] == "0 / 4"


def test_every_control_has_a_name_and_the_formula_is_announced(
    open_page: Callable[[str], Page],
) -> None:
    page = open_page(player(neuron()).html)
    names = {}
    for control in page.driver.find_elements("css selector", "button, input, select, [tabindex]"):
        names[control.get_attribute("id")] = control.accessible_name
    assert all(names.values()), names
    assert names["slider"] == "Step"
    assert names["speed"] == "Speed"
    live = page.find("now")
    assert (live.get_attribute("aria-live"), live.get_attribute("aria-atomic")) == (
        "polite",
        "true",
    )
    image = page.driver.find_element("css selector", "#picture [role=img]")
    assert image.accessible_name == "Graph of y: 10 nodes"
    page.click("last", "previous", "previous", "previous")
    assert "∂y/∂w2" in page.find("lines").get_attribute("textContent")
    assert page.driver.execute_script("return document.documentElement.lang") == "en"


def test_the_focus_is_seen_and_the_tab_key_goes_through_the_controls(
    open_page: Callable[[str], Page],
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(player(neuron()).html)
    met = []
    for _ in range(14):
        page.press(Keys.TAB)
        focused = page.driver.switch_to.active_element
        met.append(focused.get_attribute("id"))
        if met[-1] not in ("", "slider"):
            assert focused.value_of_css_property("outline-style") == "solid"
    order = ["first", "previous", "play", "next", "last", "slider", "speed"]
    assert [name for name in met if name in order] == order
    assert {"theme", "picture", "now", "values"} <= set(met)


# --- how it looks ---------------------------------------------------------------------------------


def _luminance(color: str) -> float:
    channels = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(color: str, ground: str) -> float:
    low, high = sorted([_luminance(color), _luminance(ground)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(
    scheme: str, open_page: Callable[[str], Page], driver: Any
) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    page = open_page(player(neuron()).html)
    page.click("last", "previous", "previous")
    for pressed in [scheme == "dark", scheme != "dark"]:
        ground = page.style("#now", "backgroundColor")
        assert (_luminance(ground) < 0.1) == pressed
        assert page.find("theme").get_attribute("aria-pressed") == str(pressed).lower()
        for selector in ["#caption", "#where", ".adjoint", ".local", ".note", "td.new", "thead th"]:
            assert contrast(page.style(selector, "color"), ground) >= 4.5, selector
        assert _luminance(page.style("#picture", "backgroundColor")) > 0.9
        page.click("theme")


def test_the_current_node_is_in_sight_and_a_narrow_page_does_not_scroll_sideways(
    open_page: Callable[[str], Page], driver: Any
) -> None:
    calm = {"name": "prefers-reduced-motion", "value": "reduce"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [calm]})
    for size in [(1280, 800), (520, 900)]:
        driver.set_window_size(*size)
        page = open_page(player(network(), collapse="none").html)
        for _ in range(2):
            page.click("larger")
        for _ in range(12):
            page.walk("next", 7)
            assert driver.execute_script("""
              const now = document.querySelector("#picture .now").getBoundingClientRect();
              const frame = document.getElementById("picture").getBoundingClientRect();
              const row = document.querySelector("tr[aria-current]").getBoundingClientRect();
              const table = document.getElementById("values").getBoundingClientRect();
              return now.right > frame.left && now.left < frame.right
                && now.bottom > frame.top && now.top < frame.bottom
                && row.bottom <= table.bottom + 2 && row.top >= table.top - 2;
            """)
        assert driver.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )


def test_the_picture_alone_is_shown_where_scripts_do_not_run(
    open_page: Callable[[str], Page], driver: Any
) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page = open_page(player(neuron()).html)
    assert page.driver.find_element("css selector", "#picture svg").is_displayed()
    assert not page.find("slider").is_displayed()
    assert not page.find("pane").is_displayed()
    assert "picture only" in page.driver.find_element("tag name", "noscript").text


# --- the page as a document -----------------------------------------------------------------------

HOSTILE = [
    "</script><script>window.planted = 1</script>",
    "<img src=x onerror='window.planted = 2'>",
    "<script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "\"'&amp;&lt;`${window.planted = 3}",
    "{{data}} {{svg}} \\u003c \\1",
    "line\u2028separator\nnew line\r\ttab",
    "😀👩‍👩‍👧",
    "שלום עולם",
    "\u202eright to left",
    "x" * 10_000,
]


def test_labels_are_text_whatever_they_look_like(open_page: Callable[[str], Page]) -> None:
    leaves = [Value(float(i), label=label) for i, label in enumerate(HOSTILE)]
    root = leaves[0]
    for leaf in leaves[1:]:
        root = root + leaf
    root.label = "</title><script>planted = 4</script>"
    page = open_page(player(root).html)
    assert page.driver.title == f"{root.label}, step by step"
    page.walk("next", 2 * len(topological_order(root)))
    labels = [row["label"] for row in page.seen()["rows"]]
    assert set(HOSTILE) <= set(labels)
    assert page.driver.execute_script("return window.planted ?? null") is None
    assert len(page.driver.find_elements("tag name", "script")) == 2
    assert not page.driver.find_elements("tag name", "img")


def test_the_page_forbids_itself_the_network(open_page: Callable[[str], Page]) -> None:
    text = player(neuron()).html
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", re.sub(r"xlink:href", "", text))
    assert "localStorage" not in text
    page = open_page(text)
    blocked = page.driver.execute_async_script("""
      const done = arguments[0];
      fetch("data:text/plain,x").then(() => done(false), () => done(true));
    """)
    assert blocked
    assert "Content Security Policy" in page.driver.get_log("browser")[0]["message"]


def test_saving_writes_the_page_whole(tmp_path: Path) -> None:
    x = Value(1.0, label="é 😀")
    shown = player(x * x)
    shown.save(tmp_path / "steps.html")
    assert (tmp_path / "steps.html").read_bytes().decode("utf-8") == shown.html
    assert [path.name for path in tmp_path.iterdir()] == ["steps.html"]
    with pytest.raises(OSError, match="nowhere"):
        shown.save(tmp_path / "nowhere" / "steps.html")
    assert repr(shown).startswith("<Player: Graph of v1")


def test_a_page_takes_the_options_of_a_picture_one_value_or_several() -> None:
    root = neuron()
    assert player(root, highlight=root).html == player(root, highlight=[root]).html


def test_a_notebook_shows_the_page_in_a_sandbox(open_page: Callable[[str], Page]) -> None:
    root = neuron()
    cell = player(root)._repr_html_()
    page = open_page(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{cell}")
    frame = page.driver.find_element("tag name", "iframe")
    assert frame.get_attribute("sandbox") == "allow-scripts"
    inside = page.driver.execute_script("""
      const frame = document.querySelector("iframe").getBoundingClientRect();
      const image = document.querySelector("img").getBoundingClientRect();
      return image.left >= frame.left && image.right <= frame.right
        && image.top >= frame.top && image.bottom <= frame.bottom;
    """)
    assert inside, "the picture looks out from behind the page"
    page.driver.switch_to.frame(frame)
    page.click("last")
    root.backward()
    want = [repr(node.grad) for node in topological_order(root)]
    assert [row["exact"][1] for row in page.seen()["rows"]] == want
    page.click("theme", "first", "next")
    assert page.seen()["count"] == "1 / 20"


def test_a_notebook_that_is_not_trusted_shows_the_picture(
    open_page: Callable[[str], Page],
) -> None:
    cell = re.sub(r"<iframe.*</iframe>", "", player(neuron())._repr_html_(), flags=re.DOTALL)
    page = open_page(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{cell}")
    image = page.driver.find_element("tag name", "img")
    assert image.is_displayed()
    assert image.get_attribute("alt") == "Graph of y: 10 nodes"
    assert page.driver.execute_script("return arguments[0].naturalWidth", image) > 100


def test_a_large_graph_is_drawn_in_boxes_and_played_all_the_same(
    open_page: Callable[[str], Page],
) -> None:
    model = nn.MLP(2, [16, 16, 1], seed=0)
    points = [[i / 7, (i % 5) / 3] for i in range(12)]
    loss = losses.mse([model(point) for point in points], [float(i % 2) for i in range(12)])
    loss.label = "loss"
    page = open_page(player(loss).html)
    page.click("last")
    loss.backward()
    rows = page.seen()["rows"]
    assert [row["exact"][1] for row in rows] == [repr(v.grad) for v in topological_order(loss)]
    norms = "return [...document.querySelectorAll('#picture .node text')].map((t) => t.textContent)"
    texts = [text.strip() for text in page.driver.execute_script(norms)]
    assert "–" not in texts
    (seen,) = page.walk("previous", 1)
    assert len(seen["now"]) == 1
    texts = [text.strip() for text in page.driver.execute_script(norms)]
    told = [number for head, number in pairwise(texts) if head == "‖grad‖"]
    assert told
    assert set(told) == {"–"}
