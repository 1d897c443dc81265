"""What the README and the pages tell a reader to type exists: make targets, commands with their options, imports."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def blocks(*languages: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if language in languages:
                yield page, text


def commands(program: str) -> list[str]:
    """Every line of a shell block that starts with this program, comments and continuations undone."""
    lines = [
        line
        for _, text in blocks("sh", "bash", "console")
        for line in text.replace("\\\n", " ").splitlines()
        if shlex.split(line, comments=True)[:1] == [program]
    ]
    return sorted(set(lines))


def snippets() -> list[tuple[str, str]]:
    return [(f"{page.name}-{i}", text) for i, (page, text) in enumerate(blocks("python", "py"))]


def test_readme_begins_with_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = FENCE.search(readme)
    assert first is not None
    assert [shlex.split(line, comments=True) for line in first[2].splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("line", commands("make"))
def test_make_target_exists(line: str) -> None:
    targets = TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    asked = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert asked
    assert set(asked) <= set(targets)


@pytest.mark.parametrize("line", commands("secateurs"))
def test_command_parses(line: str) -> None:
    from secateurs.cli import main

    words = shlex.split(line, comments=True)[1:]
    for stop in (">", "|", "<", "&&"):
        words = words[: words.index(stop)] if stop in words else words
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    if words and not words[0].startswith("-"):
        assert f" {words[0]} " in result.output.splitlines()[0]


def test_readme_shows_every_command() -> None:
    from secateurs.cli import main

    shown = {shlex.split(line, comments=True)[1] for line in commands("secateurs")}
    assert set(main.list_commands(None)) <= shown  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "text"), snippets())
def test_snippet_imports_resolve(name: str, text: str) -> None:
    tree = ast.parse(text, filename=name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert find_spec(alias.name) is not None, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            if node.module.split(".")[0] != "secateurs":
                assert find_spec(node.module.split(".")[0]) is not None, node.module
                continue
            home = import_module(node.module)
            for alias in node.names:
                assert hasattr(home, alias.name) or find_spec(f"{node.module}.{alias.name}"), alias.name


@pytest.mark.parametrize("text", [text for _, text in blocks("yaml")])
def test_recipes_on_the_pages_load(text: str) -> None:
    from secateurs import Recipe

    recipe = Recipe.from_yaml(text)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
