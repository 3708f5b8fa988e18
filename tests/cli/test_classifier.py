"""classifier.py: a model file gives the classifier that was saved, or is refused."""

import json

from commandline import CSV, assert_refused, files, write

from micrograd_like import nn, training
from micrograd_like.cli.classifier import Classifier
from micrograd_like.training import datasets


def test_the_classifier_in_a_model_file_is_the_one_that_was_saved(folder):
    data = datasets.circles(20)
    saved = Classifier.untrained(data, [3], "relu", seed=1)
    save = training.checkpoint("model.json", **saved.about())
    training.fit(saved.model, data.X, data.y, epochs=1, callbacks=[save])
    loaded = Classifier.load("model.json")
    assert loaded.about() == saved.about()
    assert loaded.model.state_dict() == saved.model.state_dict()
    assert loaded.classify(data.X) == saved.classify(data.X)


def test_a_model_file_that_does_not_add_up_is_refused(run, tmp_path):
    write("data.csv", CSV)
    run("train", "data.csv", "--epochs", "1", "--hidden", "2", "--out", "here")
    content = json.loads((tmp_path / "here/model.json").read_text(encoding="utf-8"))
    before = files()

    def with_(**changes):
        changed = json.loads(json.dumps(content))
        for key, value in changes.items():
            place, _, name = key.partition("__")
            changed[place][name] = value
        return changed

    bad = [
        with_(model__widths=[2, 10**9, 2]),
        with_(model__widths=[]),
        with_(model__widths="222"),
        with_(model__widths=[2, 0, 2]),
        with_(model__activation="no_such_op"),
        with_(model__activation="add"),
        with_(classifier__classes=["a"]),
        with_(classifier__features=["x"]),
        with_(classifier__scale=[0.0, 1.0]),
        with_(classifier__shift=["a", "b"]),
        with_(classifier__classes=[["a"], "b"]),
        with_(classifier__features=["x", 1]),
        with_(classifier__classes=["a"], model__widths=[2, 4, 1]),
        {**content, "classifier": None},
        {**content, "format": "micrograd_like/0"},
        {"format": content["format"], "parameters": content["parameters"]},
    ]
    for i, changed in enumerate(bad):
        (tmp_path / "here/model.json").write_text(json.dumps(changed), encoding="utf-8")
        assert_refused(run("predict", "here/model.json", "data.csv"), ".", before), i
    nn.MLP(2, [2, 2]).save("here/model.json")
    assert_refused(run("predict", "here/model.json", "data.csv"), "no classifier", before)
