"""How many architectures are pruned, and rightly: ours and Torch-Pruning's, on the same list in the same run.

For each architecture: is it traced, is 30 % of every structure (channels, neurons, heads, by magnitude) removed, do
forward and backward run, does the smaller network compute what the masked one does, on inputs of another batch and
length that pruning never saw, and does it do so after `save` and `load` in another process? A network counts as pruned
where more than 3 % of its parameters are gone. Torch-Pruning is called as its README does, and with the heads given and
written back as its examples do, once with fused and once with eager attention: the better counts. Its reference is read
off its tensors, as in `oracle.py`.

Run it from the repository root: ``python benchmarks/coverage.py``. Each architecture and tool has a process of its own,
with a limit of time and memory. The results are written after each; a run that was interrupted goes on. Besides the
constraints it takes ``pip install torch-pruning==1.6.1 --no-deps``, or ``--without-peer``.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from architectures import ARCHITECTURES
from architectures.elsewhere import MISSING
from covering.children import Reloader, in_child
from covering.ours import ours
from covering.peer import peer
from covering.rows import EAGER, HEADS, OURS, PLAIN, Row, Rows, exact, misses, reloaded, table

VARIANTS = {PLAIN: "plain", HEADS: "heads", EAGER: "eager"}


def measured(name: str, tool: str, options: argparse.Namespace, reload: Reloader) -> Row:
    """One architecture by one tool."""
    limits = {"seconds": options.seconds, "gigabytes": options.gigabytes}
    row = {"name": name, "family": ARCHITECTURES[name].family, "attention": ARCHITECTURES[name].attention, "tool": tool}
    if tool != OURS:
        return row | in_child(partial(_quietly, peer), name, options.ratio, VARIANTS[tool], **limits)
    with tempfile.TemporaryDirectory() as directory:
        row |= in_child(partial(_quietly, ours), name, options.ratio, Path(directory) / "artifact", **limits)
        if row.get("saved"):
            row["reloaded"] = reload(Path(directory) / "artifact")
    return row


def _quietly(work: Any, *arguments: Any) -> None:
    """What libraries print is not ours to show."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        work(*arguments)


def tools(rows: Rows, name: str, with_peer: bool) -> list[str]:
    """What is left to do for an architecture; eager attention only where fused attention did not do."""
    wanted = [OURS, *((PLAIN, HEADS) if with_peer else ())]
    missing = [tool for tool in wanted if (name, tool) not in rows.rows]
    if with_peer and not missing and ARCHITECTURES[name].attention and not exact(rows.peer(name)):
        missing = [EAGER] if (name, EAGER) not in rows.rows else []
    return missing


def told(row: Row) -> str:
    if row["tool"] != OURS:
        return "exact" if exact(row) else row.get("error") or "runs, and computes something else"
    return "; ".join(misses(row)) or f"exact, reloaded, {row['removed']:.1%} removed, {row['seconds']:.2f} s"


def preload() -> None:
    """What every child needs, so that none has to import it; nothing is computed here."""
    import transformers
    import transformers.modeling_utils

    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.3, help="fraction of the units of each structure to remove")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these anew, keep the others as they are")
    parser.add_argument("--without-peer", action="store_true", help="ours alone; the peer's rows stay as they are")
    parser.add_argument("--seconds", type=int, default=30, help="processor time for one architecture by one tool")
    parser.add_argument("--gigabytes", type=int, default=8, help="memory for one architecture by one tool")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    return parser.parse_args()


def main() -> int:
    given = options()
    unknown = sorted(set(given.only or ()) - set(ARCHITECTURES))
    if unknown:
        print(f"no architecture {unknown[0]!r}; there are: {', '.join(ARCHITECTURES)}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for line in MISSING:
        print(line)

    def keep(name: str, tool: str, finished: bool) -> bool:
        if name not in ARCHITECTURES or (given.without_peer and tool != OURS):
            return name in ARCHITECTURES
        return name not in given.only if given.only else not finished

    machine = {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    rows = Rows.opened(given.output, {"ratio": given.ratio, "machine": machine, "skipped": list(MISSING)}, keep)
    preload()
    reload = Reloader()
    for name in given.only or ARCHITECTURES:
        while left := tools(rows, name, not given.without_peer):
            start = time.monotonic()
            row = measured(name, left[0], given, reload)
            rows.rows[name, left[0]] = row
            rows.write()
            print(
                f"{len(rows.of(OURS)):3} {name}, {left[0]}: {told(row)} [{time.monotonic() - start:.0f} s]", flush=True
            )
    reload.close()
    order = {name: place for place, name in enumerate(ARCHITECTURES)}
    rows.rows = dict(sorted(rows.rows.items(), key=lambda item: order[item[0][0]]))
    rows.write(finished={name for name, tool in rows.rows if tool == OURS} == set(ARCHITECTURES))
    print(f"\n{table(rows)}")
    return int(not all(exact(row) and reloaded(row) for row in rows.of(OURS)))


if __name__ == "__main__":
    sys.exit(main())
