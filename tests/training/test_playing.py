"""The page in which a network learns, in a real browser: its numbers are the engine's."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from micrograd_like import greater, losses, nn, ops, optim, play, where
from micrograd_like.datasets import moons
from micrograd_like.errors import InputError, MissingExtraError

Opener = Callable[[Any], Any]


def wait(driver: Any, condition: Callable[[], Any]) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 20).until(lambda _: condition())


@pytest.fixture
def opened(driver: Any, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page of `play`; afterwards there must be no complaint on the console."""
    driver.get("about:blank")
    driver.get_log("browser")

    def opener(page: Any) -> Any:
        path = tmp_path / "play.html"
        page.save(path)
        driver.get(path.as_uri())
        return driver

    yield opener
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.set_window_size(1280, 800)


def data(classes: int, inputs: int = 2) -> tuple[list[list[float]], list[int]]:
    random = Random(classes)
    labels = [i % classes for i in range(40)]
    return [[random.gauss(k, 0.5) for _ in range(inputs)] for k in labels], labels


@pytest.mark.parametrize("rule", [optim.Adam, optim.SGD])
@pytest.mark.parametrize(
    ("widths", "activation"),
    [([2, 5, 1], "tanh"), ([2, 4, 3, 2], "relu"), ([3, 6, 3], "gelu"), ([2, 3], "tanh")],
)
def test_the_weights_that_it_reaches_are_the_engines(
    widths: list[int], activation: str, rule: Any, opened: Opener
) -> None:
    model = nn.MLP(widths[0], widths[1:], activation, seed=3)
    X, y = data(max(2, widths[-1]), widths[0])
    optimizer = rule(model.parameters(), lr=0.05, weight_decay=0.01)
    page = play(model, X, y, optimizer=optimizer, batch_size=7)
    batches = [Random(i).sample(range(40), 7) for i in range(30)]
    means = opened(page).execute_script("return arguments[0].map(learn)", batches)
    reached = opened(page).execute_script("arguments[0].map(learn); return parameters", batches)
    loss = losses.cross_entropy if widths[-1] > 1 else losses.binary_cross_entropy_with_logits
    for batch, mean in zip(batches, means, strict=True):
        optimizer.zero_grad()
        value = loss([model(X[i]) for i in batch], [y[i] for i in batch])
        value.backward()
        optimizer.step()
        assert mean == pytest.approx(value.data, rel=1e-9)
    assert reached == pytest.approx([p.data for p in model.parameters()], rel=1e-9, abs=1e-9)
    # What it shows of a point is what the model says.
    said = opened(page).execute_script(
        "arguments[0].map(learn);"
        "return DATA.X.map((x) => likeliest(probabilities(unitsOf(parameters, x))))",
        batches,
    )
    outputs = [model(x) for x in X]
    one = widths[-1] == 1
    assert said == [
        int(out.data > 0.0) if one else max(range(len(out)), key=lambda k: out[k].data)
        for out in outputs
    ]


def test_run_step_pause_and_restart(opened: Opener) -> None:
    points = moons(100)
    model = nn.MLP(2, [8, 2], "tanh", seed=0)
    page = play(model, points.X, points.y, title="Two <moons>")
    driver = opened(page)
    assert driver.title == "Two <moons>"
    start = driver.execute_script("return parameters")
    assert start == [p.data for p in model.parameters()]

    def status() -> str:
        return str(driver.find_element("id", "status").text)

    def click(name: str) -> None:
        driver.find_element("id", name).click()

    assert status().startswith("Epoch 0, step 0. Training loss")
    click("once")
    assert status().startswith("Epoch 0, step 1.")
    click("run")
    wait(driver, lambda: int(status().split("step ")[1].split(".")[0]) > 30)
    assert driver.find_element("id", "run").text == "Pause"
    click("run")
    paused = status()
    assert driver.find_element("id", "run").text == "Run"
    loss = float(paused.split("Training loss ")[1].split(",")[0])
    assert loss == pytest.approx(driver.execute_script("return judge(DATA.train)[0]"), rel=1e-3)
    click("restart")
    assert driver.execute_script("return parameters") == start
    driver.execute_script("$('seed').value = 5; $('seed').onchange()")
    other = driver.execute_script("return parameters")
    bounds = driver.execute_script("return DATA.spread")
    assert other != start
    assert all(abs(x) <= bound for x, bound in zip(other, bounds, strict=True))
    assert bounds[2] == 0.0  # a bias


def test_a_point_and_a_unit_can_be_looked_at(opened: Opener) -> None:
    X, y = data(3, 4)
    driver = opened(play(nn.MLP(4, [5, 3], "tanh", seed=1), X, y, classes=["a", "<b>", "c"]))
    driver.find_element("id", "plane").send_keys("\ue014")  # the right arrow
    text = driver.find_element("id", "point").text
    assert "Example 1" in text
    assert "<b>" in text
    p = driver.execute_script("return probabilities(unitsOf(parameters, DATA.X[0]))")
    assert all(f"{share:.4f}" in text for share in p)
    place = driver.execute_script("return spots[2]")
    driver.execute_script(
        "const b = $('network').getBoundingClientRect(); const [x, y, s] = arguments[0];"
        "$('network').onclick({ clientX: b.left + x + s / 2, clientY: b.top + y + s / 2 })",
        place,
    )
    assert driver.execute_script("return $('shown').selectedOptions[0].text") == "layer 1, unit 3"
    assert [driver.execute_script(f"return axes[{i}]") for i in (0, 1)] == [0, 1]
    driver.execute_script("document.querySelector('#axes select').selectedIndex = 3")
    driver.execute_script("document.querySelector('#axes select').onchange()")
    assert driver.execute_script("return axes[0]") == 3


@pytest.mark.parametrize("outputs", [1, 3])
def test_an_example_is_gone_through_with_the_numbers_of_now(outputs: int, opened: Opener) -> None:
    X, y = data(max(2, outputs))
    model = nn.MLP(2, [4, outputs], "tanh", seed=1)
    if outputs > 1:  # and weights of two layers are called alike
        model.layers = [nn.Layer(2, 4, "tanh", seed=1), nn.Layer(4, outputs, None, seed=2)]
    page = play(model, X, y, features=["x", "x"])
    if '"leaves":[]' in page.html:
        pytest.skip("needs Graphviz")
    driver = opened(page)
    driver.execute_script(
        "for (let i = 0; i < 20; i++) learn(nextBatch()); selected = 5; refresh()"
    )
    loss = driver.execute_script("return lossOf(parameters, example(5))[0]")
    weight = driver.execute_script("return parameters[3]")
    driver.find_element("css selector", "#example button").click()
    driver.switch_to.frame(driver.find_element("css selector", "#player iframe"))
    last = "return [...document.querySelectorAll('tbody tr')].at(-1).cells[1].textContent"
    wait(driver, lambda: driver.find_elements("id", "last"))
    for _ in range(50):  # until the numbers have come
        driver.find_element("id", "last").click()
        shown = float(driver.execute_script(last))
        if shown == pytest.approx(loss, rel=1e-3):
            break
    assert shown == pytest.approx(loss, rel=1e-3)
    label = model.parameters()[3].label
    fields = driver.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map((row) => "
        "[row.cells[0].textContent.trim(), row.querySelector('input[type=number]')?.value])"
    )
    shown = [float(x) for name, x in fields if name in (label, f"{label}_2")]
    assert pytest.approx(weight, rel=1e-3) in shown
    driver.switch_to.default_content()
    driver.find_element("css selector", "#player button").click()


@pytest.mark.parametrize(
    "activation",
    [lambda z: where(greater(z, 0.0), z, 0.1 * z), lambda z: z * ops.sigmoid(z.detach())],
)
def test_no_example_is_gone_through_whose_graph_may_differ_from_the_first(activation: Any) -> None:
    X, y = data(2)
    page = play(nn.MLP(2, [3, 2], activation, seed=1), X, y)
    assert '"leaves":[]' in page.html


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_the_screen_and_takes_its_theme(width: int, theme: str, opened: Opener) -> None:
    points = moons(60)
    page = play(nn.MLP(2, [16, 16, 2], seed=0), points.X, points.y)
    driver = opened(page)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver = opened(page)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script("return document.documentElement.dataset.theme") == theme
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_learning_rate_that_is_too_large_stops_it_with_a_word(opened: Opener) -> None:
    X, y = data(2)
    model = nn.MLP(2, [4, 2], "relu", seed=0)
    driver = opened(play(model, X, y, optimizer=optim.SGD(model.parameters(), lr=1e200)))
    for _ in range(3):
        driver.find_element("id", "once").click()
    assert "smaller learning rate" in driver.find_element("id", "status").text


def test_what_does_not_fit_is_refused() -> None:
    X, y = data(3)
    model = nn.MLP(2, [3], seed=0)
    with pytest.raises(InputError, match="takes 2 inputs"):
        play(model, [[1.0]], [0])
    with pytest.raises(InputError, match="takes 2 inputs"):
        play(model, X, y[:-1])
    with pytest.raises(InputError, match="outputs for 2 classes, and y has 3"):
        play(nn.MLP(2, [1], seed=0), X, y)
    own = type("Own", (nn.MLP,), {"__call__": lambda self, x: -nn.MLP.__call__(self, x)})
    with pytest.raises(InputError, match="MLP"):
        play(own(2, [1]), [[0.0, 0.0], [1.0, 1.0]], [0, 1])
    with pytest.raises(InputError, match="MLP"):
        play(nn.Neuron(2), X, y)
    inserted, tied = nn.MLP(2, [2, 2]), nn.MLP(2, [2, 2])
    inserted.layers.insert(0, lambda x: x)  # type: ignore[arg-type]
    tied.layers[1] = tied.layers[0]
    for other in (inserted, tied):
        with pytest.raises(InputError, match="other parameters"):
            play(other, X, y)
    with pytest.raises(InputError, match="to name"):
        play(model, X, y, features=["a"])
    for hole in (math.nan, math.inf):
        with pytest.raises(InputError, match="not finite"):
            play(model, [[hole, 1.0], *X[1:]], y)
    for options in ({"shift": [1.0]}, {"scale": [1.0, 2.0, 3.0]}):
        with pytest.raises(InputError, match="a number for each of the 2 features"):
            play(model, X, y, **options)
    with pytest.raises(InputError, match="momentum"):
        play(model, X, y, optimizer=optim.SGD(model.parameters(), momentum=0.9))
    with pytest.raises(InputError, match="momentum"):
        play(model, X, y, optimizer=optim.AdamW(model.parameters()))
    for wrong, options in (("betas", {"betas": (0.5, 0.9)}), ("max_norm", {"max_norm": 1.0})):
        with pytest.raises(InputError, match=wrong):
            play(model, X, y, optimizer=optim.Adam(model.parameters(), **options))
    with pytest.raises(InputError, match="the optimizer has others"):
        play(model, X, y, optimizer=optim.Adam(model.layers[0].neurons[0].parameters()))
    with pytest.raises(InputError, match="follows no branches"):
        play(nn.MLP(2, [3, 3], lambda z: z if z > 0.0 else 0.1 * z, seed=0), X, y)


def test_another_optimizer_begins_with_nothing(opened: Opener) -> None:
    """Its first step is a new one's: what it remembers, and what it counts, is its own."""
    X, y = data(2)
    model = nn.MLP(2, [2, 2], seed=0)
    driver = opened(play(model, X, y, optimizer=optim.SGD(model.parameters(), lr=0.03)))
    driver.execute_script("for (let k = 0; k < 200; k++) learn(nextBatch())")
    now, place, order = driver.execute_script(
        "$('optimizer').value = 'Adam'; $('optimizer').onchange();"
        "if (place >= order.length) nextBatch(), (place -= Number($('batch').value));"
        "return [parameters, place, order]"
    )
    size = driver.execute_script("return Number($('batch').value)")
    for p, number in zip(model.parameters(), now, strict=True):
        p.data = number
    adam = optim.Adam(model.parameters(), lr=0.03)
    adam.zero_grad()
    batch = order[place : place + size]
    losses.mean([losses.cross_entropy(model(X[i]), y[i]) for i in batch]).backward()
    adam.step()
    driver.execute_script("learn(nextBatch())")
    learned = driver.execute_script("return parameters")
    assert learned == pytest.approx([p.data for p in model.parameters()], rel=1e-9)


def test_numbers_of_the_data_have_their_digits_and_percentages_are_not_rounded_up(
    opened: Opener,
) -> None:
    X, y = data(2)
    driver = opened(play(nn.MLP(2, [2, 2], seed=0), X, y))
    numbers = [46716.0, 101364.0, 101364.27, 1.78324, 1999.5, 0.0, -0.001, 1e12, 1e-7]
    told = driver.execute_script("return arguments[0].map(told)", numbers)
    assert told == ["46716", "101364", "101364.27", "1.783", "1999.5", "0", "-0.001", "1e+12",
                    "1e-7"]  # fmt: skip
    shares = driver.execute_script("return [0.9996, 1, 0.5, 0].map(percent)")
    assert shares == ["99.9 %", "100.0 %", "50.0 %", "0.0 %"]
    colors = driver.execute_script("return PALETTE")
    assert len(set(colors)) == 10


def test_gradients_that_a_model_has_from_before_are_not_the_pages() -> None:
    X, y = data(2)
    model = nn.MLP(2, [2, 2], seed=0)
    page = play(model, X, y).html
    losses.cross_entropy(model(X[0]), 1).backward()
    held = [p.grad for p in model.parameters()]
    assert any(held)
    assert play(model, X, y).html == page
    assert [p.grad for p in model.parameters()] == held


def test_inputs_that_are_scaled_are_called_so_where_an_example_is_gone_through() -> None:
    X, y = data(2)
    model, names = nn.MLP(2, [2, 2], seed=0), ["age", "income"]
    scaled = play(model, X, y, features=names, shift=[40.0, 0.0], scale=[12.0, 1.0]).html
    assert "scaled age" in scaled
    assert "scaled income" not in scaled
    assert "scaled" not in play(model, X, y, features=names).html


def test_half_a_character_in_a_title_is_written_as_a_question_mark(tmp_path: Path) -> None:
    X, y = data(2)
    page = play(nn.MLP(2, [2]), X, y, title="\ud800")
    page.save(tmp_path / "play.html")
    assert "<title>?" in (tmp_path / "play.html").read_text(encoding="utf-8")


def test_without_numpy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    X, y = data(2)
    with pytest.raises(MissingExtraError, match="numpy"):
        play(nn.MLP(2, [2]), X, y)


def test_a_notebook_shows_it_in_a_sandbox() -> None:
    X, y = data(2)
    page = play(nn.MLP(2, [2], seed=0), X, y, title="A & B")
    shown = page._repr_html_()
    assert 'sandbox="allow-scripts"' in shown
    assert 'title="A &amp; B"' in shown
    assert "A & B" in repr(page)
