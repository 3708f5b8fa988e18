"""history.py: one row an epoch, whole or not at all."""

import pytest

from micrograd_like.training import History

ROWS = [{"loss": 0.5, "accuracy": 0.25}, {"loss": 0.125, "accuracy": 1.0}]


def history():
    made = History()
    for row in ROWS:
        made.begin_epoch()
        made.end_epoch(row)
    return made


def test_it_is_read_by_column_and_by_row():
    made = history()
    assert len(made) == 2
    assert (made.loss, made.accuracy) == ([0.5, 0.125], [0.25, 1.0])
    assert made.validation_loss == made.validation_accuracy == []
    assert made.columns()["accuracy"] == made.accuracy
    assert made.rows() == [{"epoch": 1, **ROWS[0]}, {"epoch": 2, **ROWS[1]}]
    assert repr(made) == "<History of 2 epochs, {'epoch': 2, 'loss': 0.125, 'accuracy': 1.0}>"
    assert repr(History()) == "<History of 0 epochs>"


def test_an_epoch_that_was_begun_and_not_ended_is_no_row():
    made = history()
    assert not made.mid_epoch
    made.begin_epoch()
    assert made.mid_epoch
    assert len(made) == 2
    made.end_epoch(ROWS[0])
    assert not made.mid_epoch


def test_what_does_not_fit_adds_nothing():
    made = history()
    made.begin_epoch()
    with pytest.raises(KeyError):
        made.end_epoch({"loss": 0.0, "accuracy": 0.0, "error": 0.0})
    assert made.mid_epoch
    assert made.rows() == history().rows()
    assert [len(column) for column in made.columns().values()] == [2, 2, 0, 0]
