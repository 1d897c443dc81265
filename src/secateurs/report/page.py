"""The dims of a network as one HTML page that needs nothing else: a drawing, and a table that can be searched.

The drawing has a line for each module, in order of execution, and a rail for each dim; a dot is where a module carries
a dim. Modules that share a rail shrink together. Pointing at a dim shows all of its dots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from secateurs.report.dot import block_of
from secateurs.report.folding import Folded, Priced
from secateurs.report.numbers import number
from secateurs.report.picture import Box, Picture, picture
from secateurs.report.reasons import explained

ROW, LANE, LEFT = 22, 16, 20


def page(title: str, totals: str, costs: Sequence[Priced], modules: Sequence[str]) -> str:
    """Draw the dims of a network.

    Args:
        title: What the network is called.
        totals: What all of it costs, in a line.
        costs: Of all dims.
        modules: Paths of the modules that hold tensors, in order of execution.

    Returns:
        The page.
    """
    shown = picture(costs, modules)
    here = resources.files("secateurs.report") / "page.html"
    free = sum(cost.dim.frozen is None for cost in costs)
    parts = {
        "title": escape(title),
        "totals": escape(totals),
        "counts": f"{free} dims can shrink, {len(costs) - free} are frozen",
        "drawing": "\n".join(_drawing(shown)),
        "rows": "\n".join(_row(i, strand) for i, strand in enumerate(shown.strands)),
    }
    text = here.read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"<!--{name}-->", value)
    return text


# ------------------------------------------------------------------------------------------------------- drawing


def _drawing(shown: Picture) -> Iterator[str]:
    lanes = shown.lanes()
    rails = LEFT + LANE * (max(lanes, default=-1) + 1)
    names = rails + 8
    widest = max((len(box.label) for box in shown.boxes), default=0)
    places = names + 7 * widest + 24
    longest = max((len(_carried(shown, box)) for box in shown.boxes), default=0)
    yield f'<svg width="{places + 7 * longest}" height="{ROW * (len(shown.boxes) + 1)}" role="img">'
    for i, strand in enumerate(shown.strands):
        yield from _rail(shown, i, strand, LEFT + LANE * lanes[i])
    for row, box in enumerate(shown.boxes):
        y = ROW * (row + 1)
        before = block_of(shown.boxes[row - 1]) if row else ""
        if row and block_of(box) != before:
            yield f'<line class="edge" x1="{LEFT}" x2="{places}" y1="{y - ROW // 2}" y2="{y - ROW // 2}"/>'
        yield f'<text class="module" x="{names}" y="{y + 4}">{escape(box.label)}</text>'
        yield f'<text x="{places}" y="{y + 4}">{_carried(shown, box, marked=True)}</text>'
    yield "</svg>"


def _rail(shown: Picture, number_: int, strand: Folded, x: int) -> Iterator[str]:
    """The line of one dim with its dots."""
    rows = shown.rows(number_)
    if not rows:
        return
    first, last = ROW * (rows[0] + 1), ROW * (rows[-1] + 1)
    dots = "".join(f'<circle cx="{x}" cy="{ROW * (row + 1)}" r="4"/>' for row in rows)
    line = f'<line x1="{x}" x2="{x}" y1="{first}" y2="{last}"/>' if last > first else ""
    yield f"<g {_attributes(number_, strand)}><title>{escape(_about(strand))}</title>{line}{dots}</g>"


def _attributes(number_: int, strand: Folded) -> str:
    frozen = " frozen" if strand.first.dim.frozen else ""
    return f'class="dim {escape(strand.first.dim.role)}{frozen}" data-dim="{number_}"'


def _about(strand: Folded) -> str:
    it = strand.first.dim
    return f"{strand.label}: {it.size} {it.role}; {explained(it.frozen) if it.frozen else 'can shrink'}"


def _carried(shown: Picture, box: Box, *, marked: bool = False) -> str:
    """``weight[0] heads 12 x head_dim 64``, every axis in turn."""
    places = []
    for tensor, axis, strands in box.axes():
        said = []
        for i in strands:
            it = shown.strands[i].first.dim
            text = f"{it.role} {it.size}"
            said.append(f"<tspan {_attributes(i, shown.strands[i])}>{escape(text)}</tspan>" if marked else text)
        places.append(f"{escape(tensor) if marked else tensor}[{axis}] {' x '.join(said)}")
    return " · ".join(places)


# --------------------------------------------------------------------------------------------------------- table


def _row(number_: int, strand: Folded) -> str:
    it = strand.first
    why = explained(it.dim.frozen) if it.dim.frozen else "can shrink"
    counts = (it.dim.size, it.unit_macs, it.unit_parameters, it.macs, it.parameters)
    cells = "".join(
        f'<td class="number" data-value="{n}">{escape(number(float(n), "parameters"))}</td>' for n in counts
    )
    carriers = "".join(f"<li>{escape(carrier)}</li>" for carrier in it.dim.carriers)
    held = f"<details><summary>{len(it.dim.carriers)} tensor axes</summary><ul>{carriers}</ul></details>"
    name = f"{escape(strand.label)}{f' ({len(strand.names)} dims)' if len(strand.names) > 1 else ''}"
    return (
        f"<tr {_attributes(number_, strand)}><td>{name}{held}</td><td>{escape(it.dim.role)}</td>{cells}"
        f"<td>{escape(why)}</td></tr>"
    )
