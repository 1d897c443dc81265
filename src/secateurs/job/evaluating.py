"""A language model by name, asked the usual zero-shot questions."""

from __future__ import annotations

from collections.abc import Collection

from secateurs.job.opening import open_model
from secateurs.tasks.zero_shot import ZeroShot
from secateurs.types import Reading


def evaluate_named(name: str, evaluation: ZeroShot, trusted: Collection[str] = ()) -> dict[str, Reading]:
    """Open a language model and evaluate it.

    Args:
        name: A transformers directory or hub name, a GGUF file, or an artifact.
        evaluation: What it is asked.
        trusted: Functions that may be run to build an artifact.

    Returns:
        ``<task>/<metric>`` -> reading.

    Raises:
        SecateursError: As ``open_model``, or it cannot be asked.
    """
    opened = open_model(name, trusted=trusted)
    return evaluation(opened.model, opened.tokenizer)
