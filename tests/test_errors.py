"""What a missing extra says to type, wherever the package was installed from."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from micrograd_like import errors
from micrograd_like.errors import MissingExtraError, how_to_install


class Installed:
    """A distribution with what pip wrote down of where it came from."""

    def __init__(self, origin: str | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.origin


def test_in_a_checkout_the_sources_are_what_pip_is_given() -> None:
    assert (Path(errors.__file__).parents[1] / "pyproject.toml").exists()
    assert how_to_install("svg") == "pip install -e '.[svg]' (in the folder of its sources)"
    assert str(MissingExtraError("jax", "jax")).startswith(
        "jax is not installed: pip install -e '.[jax]'"
    )


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ('{"dir_info": {}}', "pip install '.[data]' (in the folder of its sources)"),
        (None, "pip install 'micrograd_like[data]'"),
        ('{"url": "https://x/y.whl", "archive_info": {}}', "pip install 'micrograd_like[data]'"),
    ],
)  # fmt: skip
def test_elsewhere_it_is_told_by_what_pip_wrote_down(
    origin: str | None, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "micrograd_like" / "errors.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(origin))
    assert how_to_install("data") == command


def test_where_nothing_is_known_it_is_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(errors, "__file__", str(tmp_path / "micrograd_like" / "errors.py"))
    monkeypatch.setattr(metadata, "distribution", unknown)
    assert how_to_install("data") == "pip install 'micrograd_like[data]'"
