"""Prune a trained PyTorch network as far as a stated quality bound allows, and measure what that gives.

The public names come on first use, so that importing the package costs nothing: torch is loaded by the first name asked
for, not by ``secateurs --help``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateurs.deploy.load import load as load
    from secateurs.deploy.save import save as save
    from secateurs.graph import trace as trace
    from secateurs.prune import Pruned as Pruned
    from secateurs.prune import prune as prune
    from secateurs.prune import rounds as rounds
    from secateurs.recipe import Recipe as Recipe
    from secateurs.recipe import load_recipe as load_recipe
    from secateurs.search.algorithm1 import Algorithm1 as Algorithm1
    from secateurs.types import Group as Group
    from secateurs.types import Member as Member
    from secateurs.types import Plan as Plan
    from secateurs.types import Reading as Reading
    from secateurs.types import SecateursError as SecateursError
    from secateurs.types import Task as Task

__version__ = "0.1.0"

_HOME = MappingProxyType(
    {
        "Algorithm1": "secateurs.search.algorithm1",
        "Group": "secateurs.types",
        "Member": "secateurs.types",
        "Plan": "secateurs.types",
        "Pruned": "secateurs.prune",
        "Reading": "secateurs.types",
        "Recipe": "secateurs.recipe",
        "SecateursError": "secateurs.types",
        "Task": "secateurs.types",
        "load": "secateurs.deploy.load",
        "load_recipe": "secateurs.recipe",
        "prune": "secateurs.prune",
        "rounds": "secateurs.prune",
        "save": "secateurs.deploy.save",
        "trace": "secateurs.graph",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'secateurs' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """Python binds a submodule to its package on import; where a public name is the same word, the name wins."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _HOME:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
