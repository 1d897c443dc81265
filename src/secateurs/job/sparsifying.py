"""A language model on disk made sparse in one shot, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.job.blockwise import Done, Method, Wanted, run_named
from secateurs.on_disk import Written, check, prune_checkpoint


def sparsify_named(model: str, data: Mapping[str, Any], wanted: Wanted) -> Done[Written]:
    """Make single weights of a checkpoint zero; arguments and errors as for ``run_named``.

    Args:
        model: What to prune.
        data: What to calibrate on.
        wanted: How sparse, by a recipe that is ``sequential``, and where it goes.
    """
    return run_named(model, data, wanted, Method(prune_checkpoint, check, "sparse"))
