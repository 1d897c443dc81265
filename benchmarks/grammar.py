"""Thousands of random networks: the smaller network computes what the masked one does, or the dim is frozen.

    python benchmarks/grammar.py --cases 3000

The networks are sentences of the grammar in `tests/test_grammar.py`, at random anew each time unless a seed is given.
Prints how many there were, how many of them shrank, and how many dims were free. A network that computes something
else, or an exception, is made as small as possible and shown, and the run exits 1. Needs the packages of the tests.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from torch import nn

import test_grammar


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000, help="how many networks")
    parser.add_argument("--seed", type=int, help="the same seed, the same networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    start = told = time.monotonic()

    @hypothesis.settings(
        max_examples=options.cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(model=test_grammar.networks(), data=st.data())
    def run(model: nn.Module, data: st.DataObject) -> None:
        nonlocal told
        counts.update({"networks": 1} | test_grammar.check(model, data))
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{_line(counts)} [{told - start:.0f} s]", file=sys.stderr, flush=True)

    (hypothesis.seed(options.seed)(run) if options.seed is not None else run)()
    print(f"{_line(counts)}; every one of them right, in {time.monotonic() - start:.0f} s")
    return 0


def _line(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items())


if __name__ == "__main__":
    sys.exit(main())
