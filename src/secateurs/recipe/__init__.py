"""Recipe <-> YAML, name -> part."""

from __future__ import annotations

from secateurs.recipe.parts import ROOMS, describe, part, part_names
from secateurs.recipe.recipe import Recipe, load_recipe, recipe_names

__all__ = ["ROOMS", "Recipe", "describe", "load_recipe", "part", "part_names", "recipe_names"]
