"""The page that plays the steps, clicked through in a real browser.

Every page that a test opens must load nothing but itself and leave no error on the console.
Without a browser these tests are skipped, unless REQUIRE_BROWSER is set, as it is in CI.
"""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import in_pyodide
import pytest

from micrograd_like import Op, Value, affine, grad, losses, nn, ops, tanh, topological_order
from micrograd_like.errors import DomainError, InputError
from micrograd_like.views.drawing import NEGATIVE, POSITIVE
from micrograd_like.views.names import numeral
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
    name: row.cells[0].textContent, label: row.cells[0].title,
    value: row.cells[1].querySelector("input")?.value ?? row.cells[1].textContent,
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
    drawn = topological_order(root)
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
        k = drawn.index(event.node)
        assert seen["now"] == [f"node-{k}"]
        assert seen["live"] == sorted(f"edge-{k}-{edge.operand}" for edge in event.edges)
        assert seen["near"] == sorted({f"node-{drawn.index(e.parent)}" for e in event.edges})
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
        shown = [
            ["data", row["value"] if row["exact"][0] else "–", "grad", row["gradient"]]
            for row in seen["rows"]
        ]
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


# --- the leaves move ------------------------------------------------------------------------------

MOVE = """
for (const [label, number] of arguments[0]) {
  const row = [...document.querySelectorAll("tbody tr")].find((tr) => tr.cells[0].title === label);
  const field = row.querySelector("td input");
  field.value = number;
  field.dispatchEvent(new Event("input"));
}
"""


def move(page: Page, **leaves: float) -> None:
    """Type these numbers into the fields of the leaves."""
    page.driver.execute_script(MOVE, [[label, repr(x)] for label, x in leaves.items()])


def operations(**changes: float) -> Value:
    """A graph with negative numbers in every place of a formula."""
    a, b, c, n = (
        Value(changes.get(name, x), label=name)
        for name, x in {"a": -2.0, "b": -0.5, "c": 1.5, "n": 3.0}.items()
    )
    powers = c**n - a**2 + (a * b) ** -1
    sums = affine([a, -1.0, b], [b, a, c], a) + a - b
    root = powers + sums + (-a).exp() / b + ops.logsumexp(a, b, c) + ops.maximum(b, -1.0)
    root.label = "y"
    return root


def several(**changes: float) -> Value:
    x1, x2, w1, w2 = (
        Value(changes.get(name, x), label=name)
        for name, x in {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0}.items()
    )
    y = tanh(w1 * x1 + w2 * x2 + 6.8813735870195432) * x1
    y.label = "y"
    return y


def agrees(page: Page, root: Value) -> None:
    """Fail where the numbers, formulas or colours differ from the engine's, at any step."""
    passes = steps(root)
    page.click("first")
    pages = page.walk("next", len(passes))
    value: dict[Value, float] = {}
    gradient: dict[Value, float] = {}
    nodes = [event.node for event in passes.forward]
    for event, seen in zip(passes, pages, strict=True):
        if event.adjoint is None:
            value[event.node] = event.after
        else:
            gradient[event.node] = event.adjoint if event.edges else event.after
            gradient |= {edge.parent: edge.after for edge in event.edges}
        for node, row in zip(nodes, seen["rows"], strict=True):
            for known, text in zip((value, gradient), row["exact"], strict=True):
                if node in known:
                    assert float(text) == pytest.approx(known[node], rel=1e-12, abs=1e-15)
                else:
                    assert not text
        said = re.sub(r"\s", "", seen["lines"])
        for line in event.formula.splitlines():
            assert re.sub(r"\s", "", line) in said, (line, seen["lines"])
    twins = topological_order(deepcopy(root))
    for twin, node in zip(twins, topological_order(root), strict=True):
        twin.grad = gradient[node]
    drawn = page.driver.execute_script("""
      return [...document.querySelectorAll("#picture [id^='node-']")].map((box) => {
        const texts = [...box.querySelectorAll("text")].slice(-4);
        return [box.id, texts.map((text) => text.textContent.trim()),
                texts[2].previousElementSibling.style.fill];
      });
    """)
    boxes = {box: (texts, color) for box, texts, color in drawn}
    assert len(boxes) == len(twins)
    largest = max(abs(x) for x in gradient.values())
    for k, node in enumerate(twins):
        texts, color = boxes[f"node-{k}"]
        assert texts == ["data", numeral(node.data), "grad", numeral(node.grad)]
        palette = POSITIVE if node.grad > 0.0 else NEGATIVE
        share = int(min(1.0, math.sqrt(abs(node.grad) / largest)) * len(palette))
        rgb = re.findall("..", palette[min(share, 3)][1:])
        want = f"rgb({', '.join(str(int(c, 16)) for c in rgb)})" if node.grad else "none"
        assert color == want


@pytest.mark.parametrize("make", [several, operations])
def test_every_number_formula_and_colour_follows_the_leaves_as_in_the_engine(
    make: Callable[..., Value], open_page: Callable[[str], Page]
) -> None:
    page = open_page(player(make()).html)
    agrees(page, make())
    changes: dict[str, float] = {}
    for change in (
        [{"w1": -2.5}, {"x1": -0.125, "x2": 1e-7}, {"w2": 123456.0}]
        if make is several
        else [{"a": 1.25, "b": 0.3}, {"b": -0.3, "n": 2.5}, {"c": 0.01, "n": -3.0, "a": 1e-6}]
    ):
        changes |= change
        move(page, **change)
        agrees(page, make(**changes))
    page.click("reset")
    agrees(page, make())
    rows = page.seen()["rows"]
    root = make()
    root.backward()
    order = [event.node for event in steps(root).forward]
    assert [row["exact"][0] for row in rows] == [repr(node.data) for node in order]


def test_local_derivatives_on_the_edges_follow(open_page: Callable[[str], Page]) -> None:
    page = open_page(player(several()).html)
    move(page, x1=0.5)
    root = several(x1=0.5)
    order = topological_order(root)
    texts = page.driver.execute_script("""
      return Object.fromEntries([...document.querySelectorAll("#picture .edge")].map((edge) =>
        [edge.id, edge.textContent.trim()]));
    """)
    for k, node in enumerate(order):
        for i, d in enumerate(node.operand_grads):
            if d is not None:
                assert texts[f"edge-{k}-{i}"] == numeral(d)


def test_what_if_says_how_far_the_output_moved_against_gradient_times_change(
    open_page: Callable[[str], Page],
) -> None:
    page = open_page(player(several()).html)
    said = lambda: [page.find(name).text.replace("\xa0", " ") for name in ("moved", "outcome")]  # noqa: E731
    assert said() == ["What if a leaf were another number? Move it.", ""]
    assert page.find("reset").get_attribute("aria-disabled") == "true"
    page.click("next", "next")
    move(page, w1=-2.5)
    assert page.seen()["count"] == "2 / 20"  # where it was
    slope = grad(root := several(), root_leaf(root, "w1"))
    moved = several(w1=-2.5).data - root.data
    assert said() == [
        f"w1 moved by 0.5: gradient · change = {numeral(slope)} · 0.5 = {numeral(slope / 2)}",
        f"y moved by {numeral(moved)} ({numeral(root.data)} → {numeral(root.data + moved)})",
    ]
    move(page, x2=0.25)
    total = 0.5 * slope + 0.25 * grad(root, root_leaf(root, "x2"))
    assert said()[0] == f"2 leaves moved: the sum of gradient · change is {numeral(total)}"
    page.click("reset")
    assert said()[0].startswith("What if")


def root_leaf(root: Value, label: str) -> Value:
    return next(node for node in topological_order(root) if node.label == label)


def test_a_first_move_shows_all_that_follows(open_page: Callable[[str], Page]) -> None:
    page = open_page(player(several()).html)
    move(page, w1=-2.9)
    assert page.seen()["count"] == "20 / 20"


def test_sliders_and_fields_move_by_keys_and_know_their_leaf(
    open_page: Callable[[str], Page],
) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(player(several()).html)
    slider, field = page.driver.find_elements("css selector", "tbody tr:first-child input")
    assert (slider.accessible_name, field.accessible_name) == ("w1", "w1, as a number")
    assert slider.get_attribute("aria-valuetext") == "-3.0"
    before = float(page.seen()["rows"][0]["value"])
    slider.send_keys(Keys.ARROW_RIGHT)
    after = float(page.seen()["rows"][0]["value"])
    assert 0.05 <= after - before <= 0.5
    assert slider.get_attribute("aria-valuetext") == numeral(after)
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys("4.125 ")
    assert page.seen()["rows"][0]["exact"][0] == "4.125"
    assert page.find("play").accessible_name == "Play", "a space in a field is no command"
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys(Keys.DELETE)
    assert page.seen()["rows"][0]["exact"][0] == "4.125", "what is no number changes nothing"
    field.send_keys(Keys.TAB)
    assert page.seen()["rows"][0]["value"] == "4.125"
    move(page, w1=1000.0)
    assert float(slider.get_attribute("max")) >= 1000.0


def test_numbers_are_written_as_python_writes_them(open_page: Callable[[str], Page]) -> None:
    rng = random.Random(0)
    xs = [rng.choice([-1, 1]) * rng.random() * 10.0 ** rng.randint(-20, 20) for _ in range(150)]
    xs += [float(rng.randint(-(10**6), 10**6)) for _ in range(50)]
    xs += [
        0.0,
        -0.0,
        0.5,
        1234.5,
        1235.5,
        0.00012345,
        99995.0,
        9999.5,
        1e16,
        1e15,
        123456789012345680.0,
    ]
    xs += [1e-4, 1e-5, 9.9995, 5e-324, 1.7976931348623157e308, 2.0**-20, 12.25, 12.35, 0.1 + 0.2]
    page = open_page(player(Value(1.0, label="x") * 1.0).html)
    page.click("last")
    for x in xs:
        move(page, x=x)
    written = page.driver.execute_script(
        "const all = []; for (const x of arguments[0]) { (function () {" + MOVE + '})([["x", x]]);'
        "const row = document.querySelectorAll('tbody tr')[1];"
        "all.push([row.cells[1].textContent, row.cells[1].title]); } return all;",
        list(map(repr, xs)),
    )
    assert written == [[numeral(x), repr(x)] for x in xs]


def test_outside_a_domain_the_page_says_which(open_page: Callable[[str], Page]) -> None:
    x = Value(2.0, label="x")
    y = x.log() * 2.0
    y.label = "y"
    page = open_page(player(y).html)
    move(page, x=-1.0)
    assert page.find("outcome").text == "v1 is nan: log is defined on (0, inf)."
    assert [row["value"] for row in page.seen()["rows"]] == ["-1.0", "nan", "nan"]
    move(page, x=1.0)
    assert page.find("outcome").text.startswith("y moved by")


@pytest.mark.parametrize(
    ("make", "pole", "said"),
    [
        (lambda x: x.log().sigmoid(), 0.0, "v1 is -inf: log is defined on (0, inf)."),
        (lambda x: 1.0 / (1.0 / x), 0.0, "v1 is inf: div is defined for a divisor other than 0."),
        (lambda x: ops.tanh(x**-2), -0.0, "v1 is inf: pow is defined for x > 0, for x < 0 with"),
        (lambda x: 1.0 / ops.log1p(x), -1.0, "v1 is -inf: log1p is defined on (-1, inf)."),
        (lambda x: ops.tanh(1.0 / x), 1e-310, "y moved by"),  # an overflow, as in the engine
        (lambda x: ops.tanh(x.exp()), 1000.0, "y moved by"),
    ],
)
def test_at_a_pole_the_page_says_so_though_the_root_is_finite(
    make: Any, pole: float, said: str, open_page: Callable[[str], Page]
) -> None:
    y = make(Value(2.0, label="x"))
    y.label = "y"
    page = open_page(player(y).html)
    move(page, x=pole)
    assert page.find("outcome").text.startswith(said)
    if said.startswith("y"):
        make(Value(pole))
    else:
        with pytest.raises(DomainError):
            make(Value(pole))


def test_a_leaf_stays_where_another_branch_would_be_taken(
    open_page: Callable[[str], Page],
) -> None:
    def make(number: float) -> Value:
        x = Value(number, label="x")
        either = ops.where(ops.greater(x, 1.0), x * x, -x)
        either.label = "either"
        y = either + ops.where(ops.greater(0.5, x), x, 3.0)
        y.label = "y"
        return y

    y = make(2.0)
    page = open_page(player(y).html)
    move(page, x=1.5)
    page.click("last")
    want = [repr(event.after) for event in steps(make(1.5)).forward]
    for x in (0.75, 0.25):
        assert [row["exact"][0] for row in page.seen()["rows"]] == want
        move(page, x=x)
        said = page.find("outcome").text
        assert said == f"x = {x} would take the other side of either, which is another graph."
    assert page.driver.find_element("css selector", "tbody input").get_attribute("value") == "1.5"
    move(page, x=1.25)
    assert page.find("outcome").text.startswith("y moved by")
    order = topological_order(y, untaken=True)
    drawn = page.driver.execute_script("""
      return [...document.querySelectorAll("#picture [id^='node-']")].map((box) =>
        [box.id, [...box.querySelectorAll("text")].at(-3).textContent.trim()]);
    """)
    data = {order[int(box.removeprefix("node-"))].op: text for box, text in drawn}
    assert data[ops.neg] == "-1.25"
    for edge in [f"edge-{k}" for k, n in enumerate(order) if n.op in (ops.neg, ops.greater)]:
        selector = f"#picture [id^='{edge}-'] text"
        assert not page.driver.find_elements("css selector", selector), "it would not follow"


def test_a_click_on_a_node_or_a_row_leads_to_its_step(open_page: Callable[[str], Page]) -> None:
    page = open_page(player(neuron()).html)
    where = "return document.getElementById('where').textContent"
    click = """
      const click = new MouseEvent("click", { bubbles: true });
      document.querySelector(arguments[0]).dispatchEvent(click);
    """
    passes = steps(neuron())
    drawn = topological_order(neuron())
    for k, name in enumerate(["w1", "x1", "v1"]):
        for selector in (f"#node-{k} text", f"tbody tr:nth-child({k + 1}) .name"):
            page.click("first")
            page.driver.execute_script(click, selector)
            assert page.driver.execute_script(where) == f"Forward, step {k + 1} of 20", name
    page.driver.execute_script(click, "#node-2 text")
    swept = next(e.index for e in passes.backward if e.name == "v1") + 1
    assert page.driver.execute_script(where) == f"Backward, step {swept} of 20"
    assert len(drawn) == 10


def test_a_large_graph_is_a_replay_and_says_so(
    open_page: Callable[[str], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micrograd_like.views.live.MOST_NODES", 5)
    page = open_page(player(neuron()).html)
    assert page.find("moved").text == "A replay: it has more than 5 nodes."
    assert not page.driver.find_elements("css selector", "tbody input")
    assert not page.find("reset").is_displayed()
    page.click("last")
    assert page.seen()["count"] == "20 / 20"


def test_what_is_folded_in_the_picture_is_said_to_be(open_page: Callable[[str], Page]) -> None:
    page = open_page(player(network()).html)
    (seen,) = page.walk("next", 1)
    name = seen["caption"].removesuffix(" is given")
    assert seen["lines"].endswith(f"In the picture: {name} in “layers[0]”.")
    page.click("last")
    for seen in page.walk("previous", 80):
        named = set(
            re.findall(r"\bv\d+\b|layers\[\d\][\w.\[\]]+", seen["lines"].partition("In the")[0])
        )
        drawn = page.driver.execute_script(
            "return document.querySelector('#picture svg').textContent"
        )
        folded = seen["lines"].partition("In the picture: ")[2]
        for each in named:
            assert (
                re.search(rf"{re.escape(each)}\b", drawn) or each in folded or "more" in folded
            ), each


def test_a_box_of_conditions_and_sides_not_taken_has_a_norm(
    open_page: Callable[[str], Page],
) -> None:
    model = nn.MLP(2, [4, 1], lambda z: ops.where(ops.greater(z, 0.0), z, 0.1 * z), seed=0)
    points = [[i / 7 - 1.0, (i % 5) / 3 - 0.5] for i in range(12)]
    loss = losses.mse([model(point) for point in points], [float(i % 2) for i in range(12)])
    page = open_page(player(loss, collapse="layer").html)
    page.click("last")
    norms = "return [...document.querySelectorAll('#picture .node text')].map((t) => t.textContent)"
    texts = [text.strip() for text in page.driver.execute_script(norms)]
    loss.backward()
    conditions = texts.index("48 × 1(x > 0)")
    assert texts[conditions + 1 : conditions + 3] == ["‖grad‖", "0.0"]
    sides = [
        n for n in topological_order(loss, untaken=True) if n.op is ops.mul and n.parents[1:] == ()
    ]
    norm = numeral(math.hypot(*(node.grad for node in sides)))
    assert texts[(place := texts.index("48 × 0.1·x")) + 2] == norm, texts[place : place + 3]


def test_an_operation_that_is_a_condition_is_a_number(
    open_page: Callable[[str], Page], made_up: type[Op]
) -> None:
    above = made_up("above", lambda x: float(x > 0.0), lambda x, out: 0.0, numba="@x > 0.0")
    x = Value(2.0, label="x")
    page = open_page(player(above(x) * x).html)
    move(page, x=1.5)
    assert [row["exact"][0] for row in page.seen()["rows"]] == ["1.5", "1.0", "1.5"]


@pytest.mark.parametrize(("root", "title"), [
    (lambda a, b: (a * b + 1.0).tanh() * b, "tanh(a·b + 1)·b"),
    (lambda a, b: affine([a, b], [2.0, 3.0], -1.0).relu(), "relu(2·a + 3·b - 1)"),
    (lambda a, b: a, "a"),
])  # fmt: skip
def test_the_title_is_the_label_or_the_expression(
    root: Callable[[Value, Value], Value], title: str
) -> None:
    made = root(Value(2.0, label="a"), Value(3.0, label="b"))
    assert f"<title>{title}, step by step</title>" in player(made).html
    if made.op is not None:
        made.label = "loss"
        assert "<title>loss, step by step</title>" in player(made).html


def test_a_long_expression_has_that_of_its_last_operation_as_title() -> None:
    x = y = Value(0.5, label="x")
    for _ in range(60):
        y = (y + x).sin()
    assert "<title>sin(v" in player(y).html


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
    for _ in range(16):
        page.press(Keys.TAB)
        focused = page.driver.switch_to.active_element
        met.append(focused.get_attribute("id"))
        if met[-1] not in ("", "slider"):
            assert focused.value_of_css_property("outline-style") == "solid"
    order = ["first", "previous", "play", "next", "last", "slider", "speed"]
    assert [name for name in met if name in order] == order
    assert {"theme", "picture", "now", "reset", "table"} <= set(met)


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
        assert page.style("#picture", "backgroundColor") == ground
        assert ("invert" in page.style("#picture svg", "filter")) == pressed
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


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (1280, 800), (320, 256)])
def test_on_every_screen_nothing_lies_on_anything_else(
    size: tuple[int, int], open_page: Callable[[str], Page], driver: Any
) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 1000}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page = open_page(player(network()).html)
        for times in (0, 30, 30):
            page.walk("next", times)
            seen = driver.execute_script("""
              const rect = (element) => {
                const { left, right, top, bottom } = element.getBoundingClientRect();
                return [left, right, top, bottom];
              };
              const parts = ["header", "#stage", "#now", "#values", "footer"];
              const row = document.querySelector("tr[aria-current]");
              return {
                parts: parts.map((part) => rect(document.querySelector(part))),
                row: row && rect(row), table: rect(document.getElementById("table")),
                formula: rect(document.getElementById("caption")),
                now: rect(document.getElementById("now")),
                wide: document.documentElement.scrollWidth,
              };
            """)
            assert seen["wide"] <= width
            for (l1, r1, t1, b1), (l2, r2, t2, b2) in combinations(seen["parts"], 2):
                assert r1 <= l2 + 1 or r2 <= l1 + 1 or b1 <= t2 + 1 or b2 <= t1 + 1
            if height > 300:  # else the page is scrolled
                assert all(b <= height + 1 for _, _, _, b in seen["parts"])
            assert seen["formula"][3] <= seen["now"][3]
            if seen["row"]:
                assert seen["table"][2] - 1 <= seen["row"][2]
                assert seen["row"][3] <= seen["table"][3] + 1
        page.driver.execute_script("document.getElementById('fit').click()")
        assert driver.execute_script("""
          const frame = document.getElementById("picture").getBoundingClientRect();
          const drawn = document.querySelector("#picture svg").getBoundingClientRect();
          return drawn.left >= frame.left && drawn.right <= frame.right
            && drawn.top >= frame.top && drawn.bottom <= frame.bottom;
        """)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hints_for_the_keyboard_are_for_those_who_have_one(
    open_page: Callable[[str], Page], driver: Any
) -> None:
    page = open_page(player(neuron()).html)
    assert page.driver.find_element("css selector", ".keys").is_displayed()
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        assert not page.driver.find_element("css selector", ".keys").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


@pytest.mark.parametrize(
    "renderer", ["dot", "graphviz-pure", pytest.param("pyodide", marks=in_pyodide.needed)]
)
def test_boxes_have_one_frame_and_cells_have_none_with_every_renderer(
    renderer: str, open_page: Callable[[str], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    if renderer == "pyodide":
        monkeypatch.setattr("micrograd_like.views.drawing.rendered", in_pyodide.rendered)
    program = shutil.which(renderer) or shutil.which(
        renderer, path=str(Path(sys.executable).parent)
    )
    if program is None and renderer != "pyodide":
        pytest.skip(f"there is no {renderer}")
    monkeypatch.setattr("micrograd_like.views.drawing.renderer", lambda: program)
    page = open_page(player(neuron()).html)
    strokes = """
      return [...document.querySelectorAll(
        "#picture :is([stroke='none'], [stroke='transparent'])")].map(
          (shape) => getComputedStyle(shape).stroke);
    """
    for times in (0, 4, 9):
        page.walk("next", times)
        found = set(page.driver.execute_script(strokes))
        assert found <= {"none", "rgba(0, 0, 0, 0)"}
        assert found


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
    assert len(page.driver.find_elements("tag name", "script")) == 3
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
    assert repr(shown).startswith("<Player: Graph of (é 😀)²: 2 nodes")


def test_a_page_takes_the_options_of_a_picture_one_value_or_several() -> None:
    root = neuron()
    assert player(root, highlight=root).html == player(root, highlight=[root]).html
    with pytest.raises(InputError, match="hide is for draw"):
        player(root, hide="grad")


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
    move(page, w1=-2.5)
    assert page.find("moved").text.startswith("w1 moved by 0.5")


def test_a_notebook_that_is_not_trusted_shows_the_picture(
    open_page: Callable[[str], Page],
) -> None:
    cell = re.sub(r"<iframe.*</iframe>", "", player(neuron())._repr_html_(), flags=re.DOTALL)
    page = open_page(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{cell}")
    image = page.driver.find_element("tag name", "img")
    assert image.is_displayed()
    assert image.get_attribute("alt") == "Graph of y: 10 nodes"
    assert page.driver.execute_script("return arguments[0].naturalWidth", image) > 100
    height = page.driver.execute_script(
        "return document.querySelector('.micrograd-player').offsetHeight - arguments[0].height",
        image,
    )
    assert height < 80, "there is nothing below the picture but what to do"
    assert "Run this cell" in page.driver.find_element("tag name", "body").text


def test_a_large_graph_is_drawn_in_boxes_and_played_all_the_same(
    open_page: Callable[[str], Page],
) -> None:
    model = nn.MLP(2, [16, 16, 1], seed=0)
    points = [[i / 7, (i % 5) / 3] for i in range(12)]
    loss = losses.mse([model(point) for point in points], [float(i % 2) for i in range(12)])
    loss.label = "loss"
    page = open_page(player(loss).html)
    dark = "return document.querySelectorAll('#picture .edge:not(.later)').length"
    assert page.driver.execute_script(dark) == 0  # nothing is computed yet
    page.click("last")
    assert page.driver.execute_script(dark) > 0
    assert (
        page.driver.execute_script("return document.querySelectorAll('#picture .later').length")
        == 0
    )
    loss.backward()
    rows = page.seen()["rows"]
    order = [event.node for event in steps(loss).forward]
    assert [row["exact"][1] for row in rows] == [repr(node.grad) for node in order]
    norms = "return [...document.querySelectorAll('#picture .node text')].map((t) => t.textContent)"
    texts = [text.strip() for text in page.driver.execute_script(norms)]
    assert "–" not in texts
    (seen,) = page.walk("previous", 1)
    assert len(seen["now"]) == 1
    texts = [text.strip() for text in page.driver.execute_script(norms)]
    told = [number for head, number in pairwise(texts) if head == "‖grad‖"]
    assert told
    assert set(told) == {"–"}
