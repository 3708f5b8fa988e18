"""gpt.py: the GPT of scalars has the loss and the gradient of the one derived by hand."""

import math
import string
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optional import np

from micrograd_like import compile_forward, compile_step, optim, softmax
from micrograd_like.errors import InputError
from micrograd_like.training import gpt
from micrograd_like.training.gpt import GPT

ALPHABET = "abcdefg"


def by_hand(model: GPT, texts: list[str]) -> list[float]:
    """The mean loss of the texts, each one cut to the context, and its gradient."""
    pytest.importorskip("numpy")
    from benchmarks.gpt_by_hand import Shape, numpy_step

    shape = Shape(model.end + 1, model.layers, model.embed, model.heads, model.context)
    n = min(model.context, max(map(len, texts)) + 1)
    tokens, targets = np.zeros((2, len(texts), n), int)
    weights = np.zeros((len(texts), n))
    for i, text in enumerate(texts):
        row = model.tokens(text)[: n + 1]
        length = len(row) - 1
        tokens[i, :length], targets[i, :length] = row[:-1], row[1:]
        weights[i, :length] = 1.0 / (len(texts) * length)
    values = np.array([p.data for p in model.parameters()])
    loss, gradient = numpy_step(shape, n, len(texts))(values, tokens, targets, weights)
    if len(texts) == 1:
        (loss_1, gradient_1) = numpy_step(shape, n)(values, tokens[0], targets[0], weights[0])
        assert [loss_1, *gradient_1] == pytest.approx([loss, *gradient], rel=1e-12, abs=1e-15)
    return [loss, *gradient]


def by_engine(model: GPT, texts: list[str]) -> list[float]:
    model.zero_grad()
    loss = sum(model.loss(model.tokens(text)) for text in texts) / len(texts)
    loss.backward()
    return [loss.data, *(p.grad for p in model.parameters())]


@settings(max_examples=25)
@given(st.data())
def test_loss_and_gradient_are_those_derived_by_hand(data):
    heads = data.draw(st.integers(1, 3))
    embed = heads * data.draw(st.integers(1, 3))
    layers, context = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    model = GPT(ALPHABET, layers, embed, heads, context, seed=data.draw(st.integers(0, 99)))
    for p in model.parameters():
        p.data *= 10.0  # so that attention has preferences
    texts = data.draw(st.lists(st.text(ALPHABET, max_size=8), min_size=1, max_size=3))
    assert by_engine(model, texts) == pytest.approx(by_hand(model, texts), rel=1e-9, abs=1e-12)


def twice(function):
    return lambda *arguments: function(*arguments)[::-1]


@pytest.mark.parametrize("part", ["linear", "added", "rmsnorm", "softmax"])
def test_a_fault_in_any_part_would_be_found(part, monkeypatch):
    model = GPT(ALPHABET, layers=2, embed=4, heads=2, context=5, seed=1)
    assert by_engine(model, ["badge"]) == pytest.approx(by_hand(model, ["badge"]), rel=1e-9)
    monkeypatch.setattr(gpt, part, twice(getattr(gpt, part)))
    assert by_engine(model, ["badge"]) != pytest.approx(by_hand(model, ["badge"]), rel=1e-6)


def test_with_its_usual_sizes_it_is_microgpts():
    model = GPT(string.ascii_lowercase)
    assert len(model.parameters()) == 4192
    assert list(model.weights) == [
        *("wte", "wpe", "wq1", "wk1", "wv1", "wo1", "up1", "down1", "lm_head")
    ]
    assert by_engine(model, ["emma"]) == pytest.approx(by_hand(model, ["emma"]), abs=1e-12)
    deviation = math.sqrt(sum(p.data**2 for p in model.parameters()) / 4192)
    assert deviation == pytest.approx(0.08, rel=0.05)


def test_labels_say_where_a_number_stands():
    model = GPT(ALPHABET, layers=2, embed=4, heads=2)
    assert model.weights["up2"][3][1].label == "up2[3][1]"
    past = model.past()
    model.logits(0, past)
    model.logits(1, past)
    keys, values = past[1]
    assert (keys[1][3].label, values[0][2].label) == ("K2[1][3]", "V2[0][2]")


def test_what_comes_later_changes_nothing_before():
    model = GPT(ALPHABET, layers=2, embed=6, heads=3, seed=4)
    scores = []
    for text in ("abcd", "abef"):
        past = model.past()
        scores.append([[z.data for z in model.logits(t, past)] for t in model.tokens(text)[:-1]])
    assert scores[0][:3] == scores[1][:3]
    assert scores[0][3] != scores[1][3]


def test_of_a_long_text_the_beginning_counts():
    model = GPT(ALPHABET, embed=4, heads=2, context=3)
    assert model.loss(model.tokens("abcdef")).data == model.loss(model.tokens("abcggg")[:4]).data
    assert model.loss(model.tokens("abc")).data != model.loss(model.tokens("ab")).data


def test_equal_seeds_give_equal_models_which_a_file_keeps(tmp_path):
    one, same, other = (GPT(ALPHABET, embed=4, seed=seed) for seed in (1, 1, 2))
    assert one.state_dict() == same.state_dict() != other.state_dict()
    one.save(tmp_path / "gpt.json")
    other.load(tmp_path / "gpt.json")
    assert one.state_dict() == other.state_dict()
    assert "weights['wq1'][3][2]" in one.state_dict()
    assert repr(one) == "GPT('abcdefg', layers=1, embed=4, heads=4, context=16)"


def test_it_learns_two_words_by_heart_and_invents_them():
    model = GPT("adenor", embed=8, heads=2, context=5, seed=0)
    descent = optim.Adam(model.parameters(), lr=0.03)
    texts = ["anna", "rod"]
    for step in range(80):
        descent.zero_grad()
        model.loss(model.tokens(texts[step % 2])).backward()
        descent.step()
    random = Random(0)
    invented = [model.invent(random, 0.5) for _ in range(40)]
    assert set(invented) == set(texts)
    assert {model.invent(Random(seed), 0.0) for seed in range(9)} < set(texts)


def test_a_step_of_it_takes_texts_of_any_length_and_learns_what_the_engine_learns():
    pytest.importorskip("numpy")
    models = [GPT(ALPHABET, embed=4, heads=2, context=5, seed=2) for _ in range(2)]
    batches = [["badge", "a", ""], ["cab", "bag", "gagged", "a"]]
    model = models[0]
    descents = [optim.Adam(model.parameters(), lr=0.03) for model in models]
    step = compile_step(model.loss, model.weights, model.tokens("badge"))
    with step.training(descents[0]) as training:
        means = [training(list(map(model.tokens, texts))) for texts in batches]
    for texts, mean in zip(batches, means, strict=True):
        loss, *_ = by_engine(models[1], texts)
        assert mean == pytest.approx(loss, rel=1e-12)
        descents[1].step()
    states = [model.state_dict() for model in models]
    assert states[0] == pytest.approx(states[1], rel=1e-12, abs=1e-14)


class Recorder(Random):
    """A generator that notes the weights by which it was to choose, and chooses the first three."""

    def __init__(self):
        super().__init__(0)
        self.asked = []
        self.left = [0, 1, 2]

    def choices(self, population, weights):
        self.asked.append(list(weights))
        return [self.left.pop(0) if self.left else len(population) - 1]


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 2.0, 1e-300, 1e300])
def test_letters_are_drawn_by_their_probabilities(temperature):
    model, random = GPT(ALPHABET, embed=4, heads=2, seed=3), Recorder()
    for p in model.parameters():
        p.data *= 10.0
    assert model.invent(random, temperature) == "abc"
    past = model.past()
    for token, weights in zip([model.end, 0, 1, 2], random.asked, strict=True):
        logits = model.logits(token, past)
        top = max(z.data for z in logits)
        expected = [p.data for p in softmax([(z - top) / temperature for z in logits])]
        assert [w / sum(weights) for w in weights] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
def test_a_program_invents_what_the_engine_does(temperature):
    pytest.importorskip("numpy")
    model = GPT(ALPHABET, layers=2, embed=4, heads=2, context=6, seed=5)
    for p in model.parameters():
        p.data *= 10.0
    forward = compile_forward(model.scores, model.weights, [model.end] * model.context)
    invented = [
        [model.invent(random, temperature, way) for _ in range(40)]
        for random, way in ((Random(1), None), (Random(1), forward))
    ]
    assert invented[0] == invented[1]
    assert len({*map(len, invented[0])}) > 1 or not temperature
    assert forward.report().structures == 1


def test_inventing_leaves_no_graph_and_ends_at_the_context():
    model = GPT(ALPHABET, embed=4, heads=2, context=3)
    for row in model.weights["lm_head"][:-1]:  # the end gets the lowest score
        for p, end in zip(row, model.weights["lm_head"][-1], strict=True):
            p.data, end.data = 0.0, 0.0
    for p in model.parameters():
        p.grad = 7.0
    assert max(len(model.invent(Random(seed))) for seed in range(20)) == 3
    assert all(p.grad == 7.0 for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GPT(""), "each character once, got ''"),
        (lambda: GPT("abca"), "each character once, got 'abca'"),
        (lambda: GPT("ab", heads=3), "3 heads share embed=16: it must be a multiple"),
        (lambda: GPT("ab", layers=0), "layers is a whole number, at least 1, got 0"),
        (lambda: GPT("ab", embed=2.0), "embed is a whole number, at least 1, got 2.0"),
        (lambda: GPT("ab").tokens("abc"), "'c' is not in the alphabet 'ab'"),
        (lambda: GPT("ab").loss([2]), "the batch is empty"),
        (lambda: GPT("ab").invent(Random(0), -1), "a temperature is at least 0"),
        (lambda: GPT("ab").invent(Random(0), math.nan), "a temperature is at least 0"),
        (lambda: GPT("ab").invent(Random(0), math.inf), "a temperature is at least 0"),
    ],
)
def test_what_it_cannot_use_it_refuses(make, says):
    with pytest.raises(InputError, match=says):
        make()
