"""Load a transformers classifier or language model from a local directory, a GGUF file, or by its name on the hub."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs.checkpoint.fit import check_strange
from secateurs.types import SecateursError

MISSING = "transformers models need: pip install 'secateurs[transformers]'"
TOKENIZERS = ("tokenizer*", "vocab.*", "spiece.model")
"""Files of which a directory with a tokenizer holds one."""


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
    directory = check_place(name_or_directory)
    options: dict[str, Any] = {} if num_labels is None else {"num_labels": num_labels}
    if labels is not None:
        options |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    with quiet():
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise SecateursError(MISSING) from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_directory)
            model = AutoModelForSequenceClassification.from_pretrained(name_or_directory, **options)
        except Exception as error:
            raise SecateursError(_reason(name_or_directory, directory, "sequence classifier", error)) from error
    return model.eval(), tokenizer


def load_language_model(name_or_directory: str, gguf_file: str | None = None) -> tuple[nn.Module, Any]:
    """Load a causal or encoder-decoder language model and its tokenizer, in evaluation mode, silently.

    Args:
        name_or_directory: A directory written by ``save_pretrained``, a hub name, a GGUF file, or a directory with one.
        gguf_file: Which file of the directory, where it holds several. What a GGUF file stores is made float32.

    Returns:
        The model in the type it is stored in, and its tokenizer, or None where a directory holds none.

    Raises:
        SecateursError: No model there, a truncated file, weights without a language model's head, or the hub cannot be
            reached.
    """
    where, file = _gguf(name_or_directory, gguf_file)
    directory = Path(where) if file else check_place(where)
    options: dict[str, Any] = {"gguf_file": file, "dtype": torch.float32} if file else {}
    with quiet():
        try:
            from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
        except ImportError as error:
            raise SecateursError(MISSING) from error
        try:
            config = AutoConfig.from_pretrained(where, **({"gguf_file": file} if file else {}))
            kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model, found = kind.from_pretrained(where, output_loading_info=True, **options)
            tokenizer = _tokenizer(where, file)
        except Exception as error:
            raise SecateursError(_reason(name_or_directory, directory, "language model", error)) from error
    if found["missing_keys"]:
        raise SecateursError(
            f"{name_or_directory} is no language model: it has no '{min(found['missing_keys'])}'; give one with a "
            "head, and with the config that its weights belong to"
        )
    check_strange(model, Path(where), model.state_dict(), sorted(found["unexpected_keys"]))
    if file:  # the weights are plain numbers by now
        model.hf_quantizer = None
        del model.config.quantization_config
    return model.eval(), tokenizer


def load_tokenizer(name_or_directory: str) -> Any:
    """The tokenizer of a language model, or None where its directory holds none.

    Args:
        name_or_directory: As ``load_language_model`` takes it.

    Raises:
        SecateursError: It cannot be loaded.
    """
    where, file = _gguf(name_or_directory, None)
    with quiet():
        try:
            return _tokenizer(where, file)
        except ImportError as error:
            raise SecateursError(MISSING) from error
        except Exception as error:  # each tokenizer fails in its own way
            raise SecateursError(_reason(name_or_directory, Path(where), "tokenizer", error)) from error


def is_language_model(name_or_directory: str) -> bool:
    """Whether what is stored there says that it is a causal or encoder-decoder language model.

    Args:
        name_or_directory: As ``load_language_model`` takes it. What cannot be read is none.
    """
    path = Path(name_or_directory)
    if path.suffix == ".gguf" or (path.is_dir() and not (path / "config.json").is_file() and any(path.glob("*.gguf"))):
        return True
    if not path.exists() and _is_path(name_or_directory):
        return False
    with quiet():
        try:
            from transformers import AutoConfig
            from transformers.models.auto import modeling_auto

            made = (AutoConfig.from_pretrained(name_or_directory).architectures or [""])[0]
        except Exception:  # whoever loads it says why
            return False
    causal, encoder_decoder = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    return made in {*causal.values(), *encoder_decoder.values()}


def positions(config: Any) -> int | None:
    """How many positions a model knows; None where any number will do, as for relative ones.

    Args:
        config: Of a transformers model; None is any other.
    """
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def check_place(name: str) -> Path:
    """Refuse at once what can only be a directory and is not one of a model; a name is left for the hub.

    Args:
        name: A directory, or a name on the hub.

    Returns:
        Its path, which need not exist: it may be a name on the hub.

    Raises:
        SecateursError: No such directory, a file, or a directory without a config.
    """
    path = Path(name)
    if path.is_file():
        raise SecateursError(f"{path} is a file; give the directory that holds config.json and the weights")
    if (path / "plan.safetensors").is_file() and not (path / "manifest.json").is_file():
        raise SecateursError(f"{path} is an artifact without its manifest.json: take it again from where it was made")
    if path.is_dir() and not (path / "config.json").is_file():
        raise SecateursError(
            f"{path} is no model: it has no config.json; give a directory written by save_pretrained, or an artifact"
        )
    if not path.exists() and _is_path(name):
        raise SecateursError(f"no directory '{name}': give that of a model or an artifact, or a name on the hub")
    return path


def _is_path(name: str) -> bool:
    """Whether this can be no name on the hub (``owner/model``, ``model``), or its parent is a directory here."""
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
        or ("/" in name and Path(name).parent.is_dir())
    )


def _gguf(name: str, file: str | None) -> tuple[str, str | None]:
    """Directory and GGUF file; None where it is a plain directory or a hub name."""
    path = Path(name)
    if file is None and path.suffix == ".gguf":
        if not path.is_file():
            raise SecateursError(f"no file {path}; give the path of a GGUF file")
        return str(path.parent), path.name
    if file is None and path.is_dir() and not (path / "config.json").is_file():
        files = sorted(each.name for each in path.glob("*.gguf"))
        if len(files) > 1:
            raise SecateursError(f"{path} holds several GGUF files: {', '.join(files)}; give the path of one")
        return name, files[0] if files else None
    if file is not None and path.is_dir() and not (path / file).is_file():
        raise SecateursError(f"{path} has no file {file}")
    return name, file


def _tokenizer(where: str, gguf_file: str | None) -> Any:
    from transformers import AutoTokenizer

    if gguf_file:
        return AutoTokenizer.from_pretrained(where, gguf_file=gguf_file)
    if Path(where).is_dir() and not any(any(Path(where).glob(pattern)) for pattern in TOKENIZERS):
        return None
    return AutoTokenizer.from_pretrained(where)


def _reason(name: str, directory: Path, kind: str, error: Exception) -> str:
    """One line on why a model did not load."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    if directory.is_dir():
        return f"{name} holds no {kind} that can be loaded: {first}"
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
