"""How far to prune: the largest sparsity that a quality bound allows, and the choice among what holds."""

from secateurs.search.algorithm1 import Algorithm1
from secateurs.search.configuration import Configuration
from secateurs.search.costs import Budget
from secateurs.search.outcome import Outcome
from secateurs.search.pareto import Lexicographic, Preference, Weights, front, preference

__all__ = [
    "Algorithm1",
    "Budget",
    "Configuration",
    "Lexicographic",
    "Outcome",
    "Preference",
    "Weights",
    "front",
    "preference",
]
