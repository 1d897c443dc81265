"""A function of the user's own, by name: ``package.module:function`` or ``path/file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from secateurs.types import SecateursError


def is_function(name: str) -> bool:
    """Whether this is written as the name of a function, rather than as a path or a name on a hub.

    Args:
        name: What the user gave.
    """
    place, colon, attribute = name.rpartition(":")
    return bool(colon and place) and all(part.isidentifier() for part in attribute.split("."))


def function(name: str) -> Callable[..., Any]:
    """Find it. A file's neighbours can be imported by it.

    Args:
        name: ``package.module:function`` or ``path/file.py:function``.

    Raises:
        SecateursError: No such module, file or function, or the module does not import.
    """
    place, _, attribute = name.rpartition(":")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_path(place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SecateursError(f"{place} has no '{attribute}'{_near(attribute, module)}")
        found = getattr(found, part)
    if not callable(found):
        raise SecateursError(f"{name} is a {type(found).__name__}, not a function; name a function without arguments")
    return found  # type: ignore[no-any-return]  # callable() does not say of what


def call(name: str) -> Any:
    """Find the function and call it without arguments.

    Args:
        name: As ``function`` takes it.

    Raises:
        SecateursError: As ``function``, or the function itself raised.
    """
    found = function(name)
    try:
        return found()
    except (SecateursError, OSError):
        raise
    except Exception as error:
        raise SecateursError(f"{name}() raised {type(error).__name__}: {error}") from error


def _near(attribute: str, module: ModuleType) -> str:
    near = get_close_matches(attribute, [n for n in vars(module) if not n.startswith("_")], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _from_path(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise SecateursError(
                f"no module '{place}'; give package.module:function or path/file.py:function"
            ) from error
        raise SecateursError(f"{place} does not import: {error}") from error
    except Exception as error:
        raise SecateursError(f"{place} does not import: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SecateursError(f"no file {path}; give path/file.py:function")
    path = path.resolve()
    taken = sys.modules.get(path.stem)
    if taken is not None and getattr(taken, "__file__", None) == str(path):
        return taken
    name = path.stem if taken is None else f"{path.stem}_{abs(hash(str(path.parent)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look their own module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SecateursError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module
