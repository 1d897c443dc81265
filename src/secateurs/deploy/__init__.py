"""A pruned network as files that run: weights, plan, recipe and manifest; loaded without tracer and without pickle."""

from secateurs.deploy.build import Build, Function, Transformers
from secateurs.deploy.load import load, read_plan, read_recipe
from secateurs.deploy.manifest import read_build, read_manifest
from secateurs.deploy.save import save

__all__ = [
    "Build",
    "Function",
    "Transformers",
    "load",
    "read_build",
    "read_manifest",
    "read_plan",
    "read_recipe",
    "save",
]
