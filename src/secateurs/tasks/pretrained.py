"""Load a transformers sequence classifier from a local directory or by its name on the hub."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from torch import nn

from secateurs.types import SecateursError


def load_classifier(
    name_or_directory: str, num_labels: int | None = None, labels: Sequence[str] | None = None
) -> tuple[nn.Module, Any]:
    """Load model and tokenizer, in evaluation mode, silently.

    Args:
        name_or_directory: A directory written by ``save_pretrained``, or a hub name.
        num_labels: Classes of the head; a new head is made where the checkpoint has none. None: as in the config.
        labels: Names of the classes, for the config.

    Raises:
        SecateursError: No model there, a truncated file, no tokenizer, or the hub cannot be reached.
    """
    directory = Path(name_or_directory)
    if directory.is_dir() and not (directory / "config.json").is_file():
        raise SecateursError(
            f"{directory} is no model: it has no config.json; give a directory written by save_pretrained"
        )
    if directory.is_file():
        raise SecateursError(f"{directory} is a file; give the directory that holds config.json and the weights")
    options: dict[str, Any] = {} if num_labels is None else {"num_labels": num_labels}
    if labels is not None:
        options |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    with quiet():
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise SecateursError("transformers models need: pip install 'secateurs[transformers]'") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_directory)
            model = AutoModelForSequenceClassification.from_pretrained(name_or_directory, **options)
        except Exception as error:
            raise SecateursError(_reason(name_or_directory, directory.is_dir(), error)) from error
    return model.eval(), tokenizer


def _reason(name: str, local: bool, error: Exception) -> str:
    """One line on why a model did not load."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    if local:
        return f"{name} holds no sequence classifier that can be loaded: {first}"
    return f"no directory '{name}', and it cannot be had from the hub ({type(error).__name__}); give a local directory"


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its load report, progress bars and warnings."""
    noise = logging.getLogger("transformers")
    level = noise.level
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        noise.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            noise.setLevel(level)
