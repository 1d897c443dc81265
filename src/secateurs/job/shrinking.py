"""A language model on disk made smaller in one shot, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.job.blockwise import Done, Method, Wanted, run_named
from secateurs.shrink import Shrunken, check, shrink_checkpoint


def shrink_named(model: str, data: Mapping[str, Any], wanted: Wanted) -> Done[Shrunken]:
    """Take units or whole blocks of a checkpoint away; arguments and errors as for ``run_named``.

    Args:
        model: What to prune.
        data: What to calibrate on.
        wanted: How much of every layer goes, by a recipe that ``shrink.check`` takes, and where it goes.
    """
    return run_named(model, data, wanted, Method(shrink_checkpoint, check, "smaller"))
