"""The command line, called in an empty folder."""

import pytest

from micrograd_like.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """A function that calls a command; returns its exit status, stdout and stderr."""

    def call(*argv):
        status = main(list(argv))
        out, err = capsys.readouterr()
        if "pandas is not installed" in err:
            pytest.skip("needs the extra data")
        return status, out, err

    return call
