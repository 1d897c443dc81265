"""A function is found by name in a module or a file, and each way of not finding it has its line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateurs.names import call, function, is_function
from secateurs.types import SecateursError


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [
        name for name, it in sys.modules.items() if str(getattr(it, "__file__", "")).startswith(str(tmp_path))
    ]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("os.path:join", True),
        ("my/net.py:build", True),
        ("pkg.mod:Class.make", True),
        ("bert-base-uncased", False),
        ("org/model", False),
        ("./directory", False),
        ("C:\\models", False),
        (":f", False),
    ],
)
def test_is_function(name: str, is_one: bool) -> None:
    assert is_function(name) is is_one


def test_function_of_a_module() -> None:
    assert function("os.path:join") is __import__("os").path.join


def test_function_of_a_file_that_uses_its_neighbour_and_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_it.py").write_text("seven = 7\n")
    (tmp_path / "it_itself.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Held:\n    n: int\n"
        "def make():\n    import neighbour_of_it\n    return Held(neighbour_of_it.seven)\n"
    )
    name = f"{tmp_path / 'it_itself.py'}:make"
    assert call(name).n == 7
    assert function(name) is function(name), "a file is run once"


def test_a_file_never_takes_the_place_of_a_module_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def make():\n    return 3\n")
    assert call(f"{tmp_path / 'json.py'}:make") == 3
    assert hasattr(sys.modules["json"], "dumps")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("no_such_module_anywhere:f", "no module 'no_such_module_anywhere'"),
        ("os.path:joint", "os.path has no 'joint'; did you mean 'join'?"),
        ("os.path:sep", "is a str, not a function"),
        ("missing.py:f", "no file missing.py"),
    ],
)
def test_what_is_not_there(name: str, line: str) -> None:
    with pytest.raises(SecateursError, match=line.replace("?", r"\?")):
        function(name)


def test_a_file_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "broken_one.py").write_text("1 / 0\n")
    with pytest.raises(SecateursError, match="does not import: ZeroDivisionError"):
        function(f"{tmp_path / 'broken_one.py'}:f")
    assert "broken_one" not in sys.modules


def test_a_function_that_raises(tmp_path: Path) -> None:
    (tmp_path / "raising_one.py").write_text("def f():\n    raise ValueError('bad weights')\n")
    with pytest.raises(SecateursError, match=r"f\(\) raised ValueError: bad weights"):
        call(f"{tmp_path / 'raising_one.py'}:f")
