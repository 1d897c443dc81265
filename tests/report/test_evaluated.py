"""Every p has its row, with what it gave and why it was not taken."""

from __future__ import annotations

import io

from rich.console import Console

from secateurs.report.evaluated import table
from secateurs.search.configuration import Configuration
from secateurs.types import Reading


def test_every_p_has_its_row() -> None:
    quality = Reading("accuracy", 0.951, "1", "measured")
    ratio = {"macs": Reading("macs_ratio", 0.5, "1", "counted")}
    first = Configuration(1, 0.3, True, 1, quality=quality, ratio=ratio, seconds=3.0)
    taken = Configuration(2, 0.45, True, 2, quality=quality, ratio=ratio, seconds=3.0)
    broken = Configuration(3, 0.6, False, 3, quality=quality, ratio=ratio, seconds=75.0, reason="accuracy is below")
    failed = Configuration(4, 0.5, False, 4, reason="nothing left")
    stream = io.StringIO()
    Console(file=stream, width=100).print(table([first, taken, broken, failed], front=[first, taken], chosen=taken))
    lines = {line.split()[0]: line for line in stream.getvalue().splitlines() if line.strip()[:1] == "0"}
    assert set(lines) == {"0.3", "0.45", "0.6", "0.5"}
    assert "on the front" in lines["0.3"]
    assert "chosen" in lines["0.45"]
    assert "accuracy is below" in lines["0.6"]
    assert "1 min 15 s" in lines["0.6"]
    assert "nothing left" in lines["0.5"]
    assert "0.50x" in lines["0.3"]
