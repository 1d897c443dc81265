"""Every p that a search evaluated: its quality, its costs beside the dense network's, and whether the bound held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from secateurs.report.numbers import number, seconds
from secateurs.report.table import rows
from secateurs.types import Reading

if TYPE_CHECKING:
    from rich.table import Table


class Evaluated(Protocol):
    """One p of a search."""

    @property
    def number(self) -> int: ...
    @property
    def p(self) -> float: ...
    @property
    def continued(self) -> int: ...
    @property
    def holds(self) -> bool: ...
    @property
    def quality(self) -> Reading | None: ...
    @property
    def ratio(self) -> Mapping[str, Reading]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def reason(self) -> str | None: ...


def table(them: Sequence[Evaluated], front: Sequence[Evaluated] = (), chosen: Evaluated | None = None) -> Table:
    """One row per p, in the order of evaluation; ``from`` is the p that pruning went on from, 0 the dense network.

    Args:
        them: All.
        front: Those that none dominates.
        chosen: The one that was taken.
    """
    quality = next((one.quality.measure for one in them if one.quality), "quality")
    columns = {
        "p": True,
        "from": True,
        quality: True,
        "MACs": True,
        "latency": True,
        "energy": True,
        "bound": False,
        "took": True,
    }
    at = {one.number: one.p for one in them}
    marked = {one.number: "holds, on the front" for one in front} | ({chosen.number: "holds, chosen"} if chosen else {})
    lines = [
        (
            f"{one.p:.4g}",
            f"{at.get(one.continued, 0):.4g}",
            number(one.quality.value) if one.quality else "-",
            *(_times(one.ratio.get(name)) for name in ("macs", "latency", "energy")),
            marked.get(one.number, "holds" if one.holds else one.reason or "does not hold"),
            seconds(one.seconds),
        )
        for one in them
    ]
    return rows(columns, lines, title=f"{len(them)} sparsities evaluated, by {quality} on the split that decides")


def _times(ratio: Reading | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f}x"
