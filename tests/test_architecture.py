"""The house rules, read from the source: imports point down, names agree, parts round-trip, nothing hides."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "secateurs"
TESTS = ROOT / "tests"
DOCS = ROOT / "docs"

PART_ROOMS = (
    "structures",
    "criteria",
    "allocations",
    "schedules",
    "recoveries",
    "choosers",
    "solvers",
    "bases",
    "measures",
)
# Bottom up. A room may import the rooms of lower floors, and itself.
FLOORS = (
    {"types"},
    {"names", "attention", "blocks", "listed", "loops", "moments", "orders", "program", "rows", "shelf", "stacks"}
    | {"twins", "units", "vocabulary"},
    {"multiplied", "operands", "repair"},
    {"sequential"},
    {"stream"},
    {"graph", "select", *PART_ROOMS},
    {"proof"},
    {"archive", "biases", "evidence", "surgery"},
    {"trials", "mixing"},
    {"turning"},
    {"recipe", "checkpoint"},
    {"blockwise", "choosing", "settling"},
    {"on_disk", "prune"},
    {"search", "deploy", "tasks", "report"},
    {"smaller"},
    {"shrinking"},
    {"shrink"},
    {"job", "testing"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
MAX_LINES = 300
P90_FUNCTION_LINES = 30


def _type_checking(tree: ast.Module) -> list[ast.If]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.relative_to(SRC).with_suffix("").parts

    @property
    def room(self) -> str:
        return self.parts[0]

    @property
    def name(self) -> str:
        return ".".join(p for p in ("secateurs", *self.parts) if p != "__init__")

    @property
    def is_init(self) -> bool:
        return self.parts[-1] == "__init__"

    @property
    def is_part(self) -> bool:
        return self.room in PART_ROOMS and len(self.parts) == 2 and not self.parts[-1].startswith("_")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self, *, for_types: bool = True) -> Iterator[str]:
        """Full names of what it imports from us, wherever in the file the import stands."""
        here = self.name if self.is_init else self.name.rpartition(".")[0]
        tree = self.tree
        skipped = set() if for_types else {id(n) for block in _type_checking(tree) for n in ast.walk(block)}
        for node in ast.walk(tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "secateurs")
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    up = here.split(".")[: len(here.split(".")) - node.level + 1]
                    base = ".".join([*up, *([base] if base else [])])
                if base.split(".")[0] == "secateurs":
                    yield from (f"{base}.{alias.name}" for alias in node.names)


ALL = tuple(Module(path) for path in sorted(SRC.rglob("*.py")))
INSIDE = tuple(m for m in ALL if m.name != "secateurs")
PARTS = tuple(m for m in INSIDE if m.is_part)
BY_NAME = {m.name: m for m in ALL}


def module_of(imported: str) -> Module | None:
    """The module that an imported name lies in: ``secateurs.types.Plan`` -> ``secateurs.types``."""
    while imported not in BY_NAME and "." in imported:
        imported = imported.rpartition(".")[0]
    return BY_NAME.get(imported)


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def each(modules: tuple[Module, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", modules, ids=[m.name.removeprefix("secateurs.") for m in modules])


def test_there_is_something_to_check() -> None:
    assert {m.room for m in INSIDE} >= {"types", *PART_ROOMS}


# ------------------------------------------------------------------------------------------------------- imports


@each(INSIDE)
def test_every_room_has_a_floor(module: Module) -> None:
    assert module.room in FLOOR, f"say on which floor {module.room} stands"


@each(INSIDE)
def test_imports_point_down(module: Module) -> None:
    for imported in module.imports():
        target = module_of(imported)
        assert target is not None, f"{module.name} imports {imported}, which does not exist"
        if target.name == "secateurs" or target.room == module.room:
            continue
        assert FLOOR[target.room] < FLOOR[module.room], f"{module.name} imports {imported}"


@each(tuple(m for m in INSIDE if m.room in PART_ROOMS))
def test_parts_import_types_only(module: Module) -> None:
    for imported in module.imports():
        target = module_of(imported)
        assert target is not None
        assert target.room in {"types", module.room}, f"{module.name} imports {imported}"


def test_no_import_cycles() -> None:
    edges = {
        m.name: {
            t.name
            for t in map(module_of, m.imports(for_types=False))
            if t is not None and t.name not in {m.name, "secateurs"}
        }
        for m in INSIDE
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join([*trail, name])}"
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


HEAVY = ("torch", "numpy", "scipy", "sklearn", "transformers", "datasets", "pandas", "rich", "codecarbon", "mlxtend")


@pytest.mark.parametrize("name", ["secateurs", "secateurs.cli"])
def test_import_is_light(name: str) -> None:
    code = f"import sys, {name}; print(*sorted(m for m in sys.modules if m in {HEAVY!r}))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.split() == []


# -------------------------------------------------------------------------------------------------- names agree


@each(tuple(m for m in INSIDE if not m.is_init and m.room != "__main__"))
def test_every_module_has_its_test(module: Module) -> None:
    *rooms, stem = module.parts
    test = TESTS.joinpath(*rooms, f"test_{stem.lstrip('_')}.py")
    assert test.is_file(), f"write {test.relative_to(ROOT)}"
    assert any(
        isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for node in ast.walk(ast.parse(test.read_text(encoding="utf-8")))
    ), f"{test.relative_to(ROOT)} tests nothing"


def test_every_test_lies_in_a_room() -> None:
    rooms = {m.path.parent.relative_to(SRC) for m in ALL}
    strays = [t for t in sorted(TESTS.rglob("test_*.py")) if t.parent.relative_to(TESTS) not in rooms]
    assert not strays


@each(PARTS)
def test_part_has_its_class(module: Module) -> None:
    part = getattr(import_module(module.name), camel(module.parts[-1]), None)
    assert part is not None, f"{module.name} has no class {camel(module.parts[-1])}"
    assert is_dataclass(part), f"{part} is no dataclass"
    assert part.__dataclass_params__.frozen, f"{part} is not frozen"  # type: ignore[attr-defined]
    assert callable(part), f"{part} has no __call__"


@each(PARTS)
def test_part_has_its_page(module: Module) -> None:
    room, name = module.parts
    page = DOCS / room / f"{name}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    text = page.read_text(encoding="utf-8")
    part = getattr(import_module(module.name), camel(name))
    missing = [f.name for f in fields(part) if f"`{f.name}`" not in text and f"{f.name}:" not in text]
    assert not missing, f"{page.relative_to(ROOT)} does not say what {missing} does"


@each(tuple(m for m in INSIDE if not m.is_part and not m.parts[-1].startswith("_")))
def test_module_is_on_a_page(module: Module) -> None:
    page = DOCS / f"{module.room}.md"
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    stem = module.parts[-1]
    assert stem in page.read_text(encoding="utf-8"), f"{page.relative_to(ROOT)} does not name {stem}"


def test_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = [p.relative_to(DOCS).as_posix() for p in sorted(DOCS.rglob("*.md")) if p.name != "index.md"]
    assert [p for p in pages if f"({p})" not in index] == []


def test_links_between_pages_hold() -> None:
    broken = []
    for page in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]:
        for link in _links(page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("#") and not (page.parent / link.split("#")[0]).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def _links(text: str) -> list[str]:
    chunks = text.split("](")[1:]
    return [chunk.split(")")[0].split()[0] for chunk in chunks if chunk.split(")")[0].strip()]


# ----------------------------------------------------------------------------------------------- nothing hides

MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "Counter", "deque", "count"}
MUTABLE_NODES = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)


@each(ALL)
def test_no_module_level_mutable_state(module: Module) -> None:
    for node in module.tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if [t.id for t in targets if isinstance(t, ast.Name)] == ["__all__"]:
            continue
        assert not _mutable(node.value), f"{module.path.name}:{node.lineno} can be changed by anybody"
    held = [n.lineno for n in ast.walk(module.tree) if isinstance(n, ast.Global)]
    assert not held, f"{module.path.name}: global at {held}"


def _mutable(value: ast.expr) -> bool:
    if isinstance(value, MUTABLE_NODES):
        return True
    if not isinstance(value, ast.Call):
        return False
    called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    return called in MUTABLE_CALLS or called.startswith("Weak")


@each(ALL)
def test_no_utils(module: Module) -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & set(module.parts)


@each(ALL)
def test_file_is_short_or_its_length_explained(module: Module) -> None:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    decisions = "\n".join(p.read_text(encoding="utf-8") for p in sorted((DOCS / "decisions").glob("*.md")))
    name = module.path.relative_to(ROOT).as_posix()
    assert lines <= MAX_LINES or f"`{name}`" in decisions, f"{name} has {lines} lines and no decision says why"


def test_functions_are_short() -> None:
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for module in ALL
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[int(0.9 * len(lengths))] <= P90_FUNCTION_LINES


# ------------------------------------------------------------------------------------------- parts and recipes

AXIS = {
    "structures": "structure",
    "criteria": "criterion",
    "allocations": "allocation",
    "schedules": "schedule",
    "recoveries": "recovery",
    "choosers": "chooser",
    "solvers": "solver",
    "bases": "basis",
    "measures": "measure",
}


@pytest.mark.parametrize("room", PART_ROOMS)
def test_every_part_is_found_by_its_name(room: str) -> None:
    from secateurs.recipe import part_names

    assert set(part_names(AXIS[room])) == {m.parts[-1] for m in PARTS if m.room == room and not m.is_init}


@each(PARTS)
def test_part_round_trips_through_yaml(module: Module) -> None:
    from secateurs.recipe import describe, part

    room, name = module.parts
    made = part(AXIS[room], name)
    assert type(made).__module__ == module.name
    written = yaml.safe_load(yaml.safe_dump(describe(AXIS[room], made)))
    assert part(AXIS[room], written) == made
    assert set(written[name] if isinstance(written, dict) else ()) == {f.name for f in fields(made) if f.init}


@each(tuple(m for m in PARTS if m.room != "measures"))
def test_recipe_with_the_part_round_trips_through_yaml(module: Module) -> None:
    from secateurs.recipe import Recipe

    axis, name = AXIS[module.room], module.parts[-1]
    spec = {"structure": ["channel"], "criterion": "magnitude", "sequential": axis == "solver"}
    recipe = Recipe.from_dict(spec | {axis: [name] if axis == "structure" else name})
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize("path", sorted((SRC / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads(path: Path) -> None:
    from secateurs.recipe import Recipe, load_recipe

    recipe = load_recipe(path.stem)
    assert recipe == load_recipe(str(path))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_there_are_shipped_recipes() -> None:
    assert list((SRC / "recipes").glob("*.yaml"))


def test_public_names_resolve() -> None:
    import secateurs

    for name, home in secateurs._HOME.items():
        assert find_spec(home) is not None
        assert getattr(secateurs, name) is getattr(import_module(home), name)
        assert name in dir(secateurs)
    with pytest.raises(AttributeError, match="no attribute 'saw'"):
        secateurs.saw  # noqa: B018
