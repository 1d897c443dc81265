"""The dims of a network as a graph in the DOT language, for Graphviz and what reads its files; it is not needed here.

Boxes are modules, numbered in order of execution and framed by the block they repeat in; ellipses are dims, joined to
the modules that carry them. A frozen dim is grey, and its tooltip says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from secateurs.report.folding import Priced
from secateurs.report.numbers import number
from secateurs.report.picture import Box, Picture, picture
from secateurs.report.reasons import explained


def dot(title: str, costs: Sequence[Priced], modules: Sequence[str]) -> str:
    """Draw the dims of a network.

    Args:
        title: What the network is called.
        costs: Of all dims.
        modules: Paths of the modules that hold tensors, in order of execution.

    Returns:
        One ``graph`` in the DOT language.
    """
    shown = picture(costs, modules)
    lines = [
        f"graph {_quoted(title)} {{",
        f"  graph [rankdir=LR, label={_quoted(title)}, labelloc=t, fontname=Helvetica, ranksep=1.5, nodesep=0.15]",
        "  node [fontname=Helvetica, fontsize=11]",
        '  edge [color="#888888", fontname=Helvetica, fontsize=9]',
        *_boxes(shown),
        *_dims(shown),
        *_edges(shown),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _boxes(shown: Picture) -> Iterator[str]:
    """The modules, neighbours of one block in a frame of their own."""
    frame = ""
    for i, box in enumerate(shown.boxes):
        block = block_of(box)
        if block != frame:
            if frame:
                yield "  }"
            if block:
                yield f"  subgraph {_quoted(f'cluster_{i}')} {{"
                yield f"    label={_quoted(f'{block}, {len(box.names)} times')}; style=rounded; color=gray"
            frame = block
        yield f"    m{i} [shape=box, label={_quoted(f'{i + 1}. {box.label}')}]"
    if frame:
        yield "  }"


def block_of(box: Box) -> str:
    """The block that repeats, e.g. ``encoder.layer.{0-11}``; empty where the module stands alone.

    Args:
        box: Modules.
    """
    if len(box.names) == 1:
        return ""
    parts = box.label.split(".")
    last = max(i for i, part in enumerate(parts) if part.startswith("{"))
    return ".".join(parts[: last + 1])


def _dims(shown: Picture) -> Iterator[str]:
    for i, strand in enumerate(shown.strands):
        it = strand.first
        text = f"{strand.label}\n{it.dim.size} {it.dim.role}"
        if it.dim.frozen is None:
            unit = number(float(it.unit_parameters), "parameters")
            text += f"\neach {unit} parameters, {number(float(it.unit_macs), 'MAC')}"
            style = 'style=filled, fillcolor="#cfe8cf", tooltip="can shrink"'
        else:
            tooltip = _quoted(explained(it.dim.frozen))
            style = f'style="filled,dashed", fillcolor="#eeeeee", fontcolor="#666666", tooltip={tooltip}'
        yield f"  d{i} [shape=ellipse, label={_quoted(text)}, {style}]"


def _edges(shown: Picture) -> Iterator[str]:
    for i, box in enumerate(shown.boxes):
        places: dict[int, list[str]] = {}
        for mark in box.marks:
            places.setdefault(mark.strand, []).append(f"{mark.tensor}[{mark.axis}]")
        for strand, where in places.items():
            yield f"  m{i} -- d{strand} [label={_quoted(' '.join(where))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
