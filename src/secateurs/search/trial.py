"""Steps 1 to 4 of Algorithm 1 for one p, and what the attempt cost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from torch import nn

from secateurs.graph import Graph
from secateurs.measures.instruments.meters import Meter
from secateurs.prune import Pruned, prune
from secateurs.recipe import Recipe
from secateurs.search.bound import Bound
from secateurs.search.configuration import Configuration
from secateurs.search.costs import Costs
from secateurs.search.seeded import seeded
from secateurs.types import Reading, SecateursError, Task

log = logging.getLogger("secateurs.search")


@dataclass(frozen=True)
class Trial:
    """Evaluates a p.

    Args:
        model: W, in the basis in which it is pruned.
        task: Data, loss and A.
        recipe: What prunes, and heals.
        network: The trace of ``model``.
        bound: What A(W') is held to.
        costs: Measures C, T and E.
        meter: Of the search's own joules.
    """

    model: nn.Module
    task: Task
    recipe: Recipe
    network: Graph
    bound: Bound
    costs: Costs
    meter: Meter

    def __call__(self, asked: Configuration, start: Pruned) -> tuple[Configuration, Pruned | None]:
        """Evaluate the p of ``asked``, from ``start`` on; returns it filled in, and W' where there is one.

        What the recipe or the measure of quality refuses is a p that does not hold, with its reason.
        """
        began = time.perf_counter()
        with self.meter.window() as window, seeded(asked.seed):
            try:
                found, pruned = self._steps(asked, start)
            except SecateursError as error:
                found, pruned = replace(asked, holds=False, reason=str(error)), None
        spent = _joules(window.joules, self.meter)
        found = replace(found, seconds=time.perf_counter() - began, spent=spent)
        _tell(found, self.bound)
        return found, pruned

    def _steps(self, asked: Configuration, start: Pruned) -> tuple[Configuration, Pruned]:
        # 1. Prune the fraction p of the least important; the recipe's schedule and recovery are within.
        pruned = prune(self.model, self.task, self.recipe, asked.p, start=start, network=self.network)
        # 2. Measure C(W'), and check A(W') >= A(W) - eps.
        quality, reason = self.bound.judge(pruned.model)
        sides = self.costs.computation(pruned.model)
        # 3. Measure T(W').
        sides |= self.costs.time(pruned.model)
        # 4. Measure E(W').
        sides |= self.costs.energy(pruned.model)
        found = replace(asked, holds=reason is None, reason=reason, quality=quality)
        return replace(found, readings=sides.pruned, ratio=sides.ratio), pruned


def _joules(joules: float | None, meter: Meter) -> Reading | None:
    if joules is None:
        return None
    return Reading("search_energy", joules, "J", meter.how, source=meter.source, note=meter.scope)


def _tell(found: Configuration, bound: Bound) -> None:
    if found.quality is None:
        log.info("p %.4g does not hold: %s", found.p, found.reason)
        return
    ratios = ", ".join(f"{n} x {found.ratio[n].value:.2f}" for n in ("macs", "latency", "energy") if n in found.ratio)
    verdict = "holds" if found.holds else "does not hold"
    quality = f"{found.quality.measure} {found.quality.value:.4f}, bound {bound.limit:.4f}"
    log.info("p %.4g %s: %s; %s; %.1f s", found.p, verdict, quality, ratios, found.seconds)
