"""How the dense network is made anew in another process, before it is given the pruned tensors.

A build is data in the manifest and a callable in Python. A transformers model is made from its class and config; any
other network by a function. Running a function that a file names is running code that the file chose, so ``load`` does
that on its own only for the networks that come with secateurs.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from secateurs.names import function, is_function
from secateurs.types import SecateursError

TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "*processor_config.json",
)
"""Names under which transformers keeps what turns text or images into inputs."""
ATTENTIONS = frozenset({"eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"})
"""Implementations within transformers; any other name makes it fetch code from the hub."""


@dataclass(frozen=True)
class Transformers:
    """A class of the transformers library, and a config.

    Args:
        architecture: Name of the class, e.g. ``BertForSequenceClassification``.
        config: The dense network's config, as its ``config.json`` has it.
        attention: Its attention implementation, e.g. ``sdpa``; None leaves it to transformers.
        files: Files to lie beside the weights: tokenizer, processor.
    """

    architecture: str
    config: Mapping[str, Any]
    attention: str | None = None
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, model: nn.Module, directory: str | Path | None = None) -> Transformers:
        """Describe a dense transformers model; tokenizer files are taken from ``directory`` where given.

        Raises:
            SecateursError: It is not a model of the transformers library itself.
        """
        if _transformers_class(type(model).__name__) is not type(model):
            raise SecateursError(f"{type(model).__name__} is a class of your own: build it by a function of your own")
        config: Any = model.config
        return cls(
            architecture=type(model).__name__,
            config=json.loads(config.to_json_string(use_diff=False)),
            attention=_attention(config),
            files=companions(directory) if directory else (),
        )

    def __call__(self) -> nn.Module:
        made = _transformers_class(self.architecture)
        if self.attention is not None and self.attention not in ATTENTIONS:
            raise SecateursError(f"attention {self.attention!r} is none of {', '.join(sorted(ATTENTIONS))}")
        fields = {name: _read(value) for name, value in self.config.items() if "attn_implementation" not in name}
        chosen = {"attn_implementation": self.attention} if self.attention else {}
        model: nn.Module = made(made.config_class.from_dict(fields, **chosen))
        return model


def companions(directory: str | Path) -> tuple[Path, ...]:
    """The files of a directory that turn text or images into inputs.

    Args:
        directory: Of a transformers model, or an artifact.
    """
    return tuple(sorted({f for name in TOKENIZER_FILES for f in Path(directory).glob(name) if f.is_file()}))


def _attention(config: Any) -> str | None:
    """Its implementation; None where a network inside it has another, and transformers is to choose as it did."""
    inside = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    said = {it._attn_implementation for it in (config, *inside) if it is not None}
    (only,) = said if len(said) == 1 else (None,)
    return only if only in ATTENTIONS else None


def _read(value: Any) -> Any:
    """A value of a config, in which transformers writes what JSON lacks as ``{"__float__": "Infinity"}``."""
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return float(value["__float__"]) if set(value) == {"__float__"} else {k: _read(v) for k, v in value.items()}


def _transformers_class(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise SecateursError("this needs transformers: pip install 'secateurs[transformers]'") from error
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise SecateursError(
            f"{name} is no model class of transformers {transformers.__version__}: build it by a function of your own"
        )
    return found


@dataclass(frozen=True)
class Function:
    """A function that returns the dense network, and its keyword arguments.

    Args:
        target: ``package.module:function`` or ``path/to/file.py:function``.
        arguments: Anything JSON takes.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> nn.Module:
        made = self.resolve()(**self.arguments)
        if not isinstance(made, nn.Module):
            raise SecateursError(f"{self.target} returned {type(made).__name__}, not a torch.nn.Module")
        return made

    def resolve(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            SecateursError: There is no such module, file or function.
        """
        if not is_function(self.target):
            raise SecateursError(
                f"{self.target!r} names no function: write package.module:function or file.py:function"
            )
        return function(self.target)

    def anchored(self) -> Function:
        """The same with a file's path made absolute, so that it can be found from any directory."""
        where, colon, name = self.target.rpartition(":")
        where = str(Path(where).resolve()) if where.endswith(".py") else where
        return Function(f"{where}{colon}{name}", self.arguments)

    @property
    def ours(self) -> bool:
        """Whether it is a builder that comes with secateurs: it can do no more than return a network."""
        if not self.target.startswith("secateurs.tasks."):
            return False
        found = self.resolve()
        if getattr(found, "__module__", None) != self.target.rpartition(":")[0]:
            return False
        made = typing.get_type_hints(found).get("return")
        return isinstance(made, type) and issubclass(made, nn.Module)


Build = Transformers | Function
