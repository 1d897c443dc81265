"""Predict the next token: calibration sequences and evaluation windows from any text or from token ids.

Perplexity is exp(sum of negative log likelihoods / tokens predicted), over windows of a stated length: a token is
predicted from those before it in its window, so figures compare only under one protocol.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from secateurs.measures.perplexity import IGNORED, Perplexity
from secateurs.tasks.pretrained import positions
from secateurs.tasks.tokens import Source, described, read_tokens
from secateurs.tasks.windows import Starts, apart, in_a_row, spread, widest, with_start
from secateurs.types import Batch, Inputs, SecateursError, Task

logger = logging.getLogger("secateurs.tasks")

SET_ASIDE = 0.2
"""The last part of the text that decides and reports where no evaluation text is given."""


@dataclass(frozen=True)
class LanguageData:
    """Where the text is, how it is cut, and who sees which.

    Args:
        train: Calibrates and heals: a text file, a table, a file of token ids (see ``tasks.tokens``), texts, or ids.
        evaluation: Decides and reports; None sets the last fifth of ``train`` aside.
        selection: Decides, and ``evaluation`` then reports alone; None: every other evaluation window decides.
        text: Column of a table.
        length: Tokens of a sequence.
        count: Calibration sequences.
        starts: ``even``: sequence i starts at ``i (N - length) // (count - 1)``; ``random``: drawn with the seed.
        stride: Tokens from one evaluation window to the next; below ``length`` each token that counts has at least
            ``length - stride`` before it, but for those of the first window. None: ``length``.
        windows: Evaluation windows, from the start of the text; None: all of it.
        bos: Whether every sequence begins with the tokenizer's first token.
        batch_size: Sequences of a batch.
        example_length: Tokens in ``example_inputs``, on which operations and times are taken.
        seed: Of the starts.

    Raises:
        SecateursError: A field is outside its range.
    """

    train: Source
    evaluation: Source | None = None
    selection: Source | None = None
    text: str = "text"
    length: int = 512
    count: int = 64
    starts: Starts = "even"
    stride: int | None = None
    windows: int | None = None
    bos: bool = False
    batch_size: int = 1
    example_length: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        least = {"length": 2, "count": 1, "stride": 1, "windows": 1, "batch_size": 1, "example_length": 2}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise SecateursError(f"{name} must be at least {smallest}, got {value}")
        if self.stride is not None and self.stride > self.length - self.bos:
            raise SecateursError(f"stride {self.stride} leaves tokens out; give at most {self.length - self.bos}")
        if self.starts not in ("even", "random"):
            raise SecateursError(f"starts must be 'even' or 'random', got '{self.starts}'")

    @property
    def protocol(self) -> str:
        """How perplexity is taken, in words."""
        stride = self.stride or self.length - self.bos
        context = "apart from each other" if stride == self.length - self.bos else f"every {stride} tokens"
        first = "each after a BOS token" if self.bos else "no BOS token"
        some = f"{self.windows} windows" if self.windows else "windows"
        return f"{some} of {self.length} tokens, {context}, {first}"


def language_modelling(model: nn.Module, tokenizer: Any, data: LanguageData) -> Task:
    """A task for a causal or encoder-decoder language model of transformers.

    A batch is ``{"input_ids": (n, length), "labels": (n, length)}``, as such a model takes it: it shifts the labels
    itself, and -100 does not count. An encoder-decoder is given the first half of each sequence to read and predicts
    the second; its batches hold ``decoder_input_ids`` too.

    Args:
        model: Its config gives the size of the vocabulary.
        tokenizer: The model's own; may be None for token ids.
        data: Where the text is.

    Raises:
        SecateursError: A file or column is missing, a text is shorter than one sequence, sequences are longer than the
            model knows positions, a token is outside its vocabulary, or there is no first token where one is wanted.
    """
    _check_length(model, data.length)
    streams = _streams(tokenizer, data)
    for name, stream in streams.items():
        _check_vocabulary(model, stream, name)
    first, body = _first_token(tokenizer, data), data.length - data.bos
    rows = {"train": _calibration(model, streams["train"], first, data)}
    for name, (cut, context) in _windows(streams, body, data).items():
        rows[name] = [_row(model, each, n) for each, n in zip(with_start(cut, first), context, strict=True)]
    loader: Any = DataLoader
    return Task(
        name=f"language modelling, {_name(data.evaluation if data.evaluation is not None else data.train)}",
        example_inputs=_inputs(model, {k: v[None, : data.example_length] for k, v in rows["train"][0].items()}),
        splits={name: loader(each, batch_size=data.batch_size) for name, each in rows.items()},
        loss=loss,
        predict=predict,
        quality=Perplexity(),
        manifest=_manifest(data, {name: len(each) for name, each in rows.items()}),
    )


def calibration(model: nn.Module, tokenizer: Any, data: LanguageData) -> list[Inputs]:
    """The calibration batches of such a task alone, as the model's forward takes them; other texts are not looked at.

    Args:
        model: As for ``language_modelling``; its parameters may be on the meta device.
        tokenizer: As for ``language_modelling``.
        data: Where the text is.

    Raises:
        SecateursError: As ``language_modelling``, for the calibration text.
    """
    logger.info("reading %s", _name(data.train))
    stream = read_tokens(data.train, tokenizer, data.text)
    _check_vocabulary(model, stream, "train")
    _check_length(model, data.length)
    rows: Any = _calibration(model, stream, _first_token(tokenizer, data), data)
    return [_inputs(model, batch) for batch in DataLoader(rows, batch_size=data.batch_size)]


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits ``(n_tokens, vocabulary)`` and the tokens they predict, -100 where one does not count."""
    device = next(model.parameters()).device
    given = {name: tensor.to(device) for name, tensor in batch.items()}
    logits, labels = model(**_inputs(model, given)).logits, given["labels"]
    if "decoder_input_ids" not in given:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits.flatten(0, 1), labels.flatten()


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean negative log likelihood of the tokens of a batch that count."""
    logits, labels = predict(model, batch)
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


def _inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the forward takes: no labels, as the loss is taken here, and no cache of keys and values."""
    given: dict[str, Any] = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False
    return given


def _streams(tokenizer: Any, data: LanguageData) -> dict[str, Tensor]:
    """Source -> its tokens."""
    given = {"train": data.train, "evaluation": data.evaluation, "selection": data.selection}
    streams: dict[str, Tensor] = {}
    for name, source in given.items():
        if source is not None:
            logger.info("reading %s", _name(source))
            streams[name] = read_tokens(source, tokenizer, data.text)
    if data.evaluation is None:
        streams["train"], streams["evaluation"] = apart(streams["train"], SET_ASIDE)
    return streams


def _calibration(model: nn.Module, stream: Tensor, first: int | None, data: LanguageData) -> list[dict[str, Tensor]]:
    """The calibration sequences."""
    cut = with_start(spread(stream, data.length - data.bos, data.count, data.starts, data.seed), first)
    _warn_of_little(model, cut.numel())
    return [_row(model, each, 0) for each in cut]


def _windows(streams: Mapping[str, Tensor], body: int, data: LanguageData) -> dict[str, tuple[Tensor, list[int]]]:
    """The evaluation windows of ``select`` and ``final``, and how many tokens at the front of each do not count."""
    stride = data.stride or body
    cut = {name: in_a_row(streams[name], body, stride) for name in ("evaluation", "selection") if name in streams}
    found = cut["evaluation"][: data.windows]
    if data.windows is not None and len(found) < data.windows:
        raise SecateursError(f"the evaluation text gives {len(found)} windows, not {data.windows}; ask for fewer")
    shared = {name: [0] + [0 if streams[name].dim() == 2 else body - stride] * (len(cut[name]) - 1) for name in cut}
    front = shared["evaluation"][: len(found)]
    if "selection" in cut:
        return {
            "select": (cut["selection"][: data.windows], shared["selection"][: data.windows]),
            "final": (found, front),
        }
    if len(found) < 2:
        raise SecateursError(
            "the evaluation text gives one window: it cannot be halved into select and final; give more text, or "
            "let more windows be taken"
        )
    return {"select": (found[1::2], front[1::2]), "final": (found[::2], front[::2])}


def _row(model: nn.Module, sequence: Tensor, context: int) -> dict[str, Tensor]:
    """One example; its first ``context`` tokens do not count."""
    labels = sequence.clone()
    labels[:context] = IGNORED
    config: Any = getattr(model, "config", None)
    if not getattr(config, "is_encoder_decoder", False):
        return {"input_ids": sequence, "labels": labels}
    half = len(sequence) // 2
    prepare: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is None:
        raise SecateursError(
            f"{type(model).__name__} does not say what its decoder reads, so that a text is no input of it; `secateurs "
            "prune --task file.py:function` takes a task of your own"
        )
    shifted = prepare(labels=sequence[None, half:])[0]
    return {"input_ids": sequence[:half], "decoder_input_ids": shifted, "labels": labels[half:]}


def _check_length(model: nn.Module, length: int) -> None:
    config: Any = getattr(model, "config", None)
    longest = positions(config)
    read = length - length // 2 if getattr(config, "is_encoder_decoder", False) else length
    if longest is not None and read > longest:
        raise SecateursError(
            f"length {length} is more than the {longest} positions that the model knows; give a length of at most "
            f"{longest * length // read}"
        )


def _check_vocabulary(model: nn.Module, tokens: Tensor, name: str) -> None:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(text, "vocab_size", None)
    if size is None:
        raise SecateursError(f"{type(model).__name__} is no transformers language model: its config has no vocab_size")
    if tokens.numel() and int(tokens.max()) >= size:
        raise SecateursError(
            f"token {int(tokens.max())} of the {name} text is outside the model's vocabulary of {size}; "
            "give the model's own tokenizer"
        )


def _first_token(tokenizer: Any, data: LanguageData) -> int | None:
    if not data.bos:
        return None
    token = getattr(tokenizer, "bos_token_id", None)
    if token is None:
        raise SecateursError("bos: the tokenizer has no first token (bos_token); leave bos out")
    return int(token)


def _warn_of_little(model: nn.Module, n_tokens: int) -> None:
    """A Hessian of inputs has full rank only where it saw as many tokens as there are inputs."""
    inputs = widest([tuple(p.shape) for p in model.parameters() if p.dim() == 2])
    if n_tokens < inputs:
        logger.warning(
            "%d calibration tokens are fewer than the %d inputs of the widest weight: too little for a Hessian; "
            "raise count or length",
            n_tokens,
            inputs,
        )


def _name(source: Source) -> str:
    if isinstance(source, str | Path):
        return Path(source).name
    return "token ids" if isinstance(source, Tensor) else f"{len(source)} texts"


def _manifest(data: LanguageData, counted: Mapping[str, int]) -> dict[str, Any]:
    sources = {"train": data.train, "evaluation": data.evaluation, "selection": data.selection}
    return {
        **{name: described(source) for name, source in sources.items() if source is not None},
        "text": data.text,
        "length": data.length,
        "starts": data.starts,
        "stride": data.stride or data.length - data.bos,
        "bos": data.bos,
        "seed": data.seed,
        "protocol": data.protocol,
        "examples": dict(counted),
    }
