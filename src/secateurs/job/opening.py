"""What the user names, opened: a network by directory, hub name or function; a task by name or function."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from secateurs.deploy import Build, Function, Transformers, load, read_build, read_manifest
from secateurs.job.named_data import LANGUAGE, language_data, text_data
from secateurs.names import call, function, is_function
from secateurs.types import SecateursError, Task

CLASSIFIER = "ForSequenceClassification"
"""How transformers ends the names of its classes that classify texts."""


@dataclass(frozen=True)
class Opened:
    """A network, and what belongs to it.

    Args:
        name: What the user called it.
        model: In evaluation mode, on the CPU.
        builder: The function that builds it; None for a model of a library, which is built from its class and config.
        tokenizer: Where there is one.
    """

    name: str
    model: nn.Module
    builder: str | None = None
    tokenizer: Any = None

    @contextmanager
    def build(self) -> Iterator[Build]:
        """How the network is made anew in another process; files that go with it exist while the body runs."""
        if self.builder is not None:
            yield Function(self.builder).anchored()
            return
        with TemporaryDirectory(prefix="secateurs-") as directory:
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(directory)
            yield Transformers.of(self.model, directory)


@dataclass(frozen=True)
class TaskName:
    """A task as the user names it: plain data, so that another process can open the same one.

    Args:
        name: ``mnist``, ``text``, ``glue/<task>``, ``language_modelling`` or ``module:function``.
        options: Fields of ``TextData``, for a task of texts, or of ``LanguageData``.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------ networks


def open_model(name: str, weights: str | None = None, trusted: Collection[str] = ()) -> Opened:
    """Open a network.

    Args:
        name: An artifact's directory; a transformers directory or hub name of a classifier or a language model; a GGUF
            file; or ``module:function``, which builds it.
        weights: A safetensors or PyTorch file with the state of a network that a function builds.
        trusted: Functions that may be run to build an artifact; one that comes with secateurs always may.

    Raises:
        SecateursError: No such model, or one that cannot be loaded.
    """
    if is_function(name):
        return Opened(name, _built(name, weights), name)
    if weights is not None:
        raise SecateursError(f"weights go with a function that builds the network; {name} brings its own")
    if (Path(name) / "manifest.json").is_file():
        return _artifact(Path(name), trusted)
    from secateurs.tasks.pretrained import is_language_model, load_classifier, load_language_model

    if is_language_model(name):
        model, tokenizer = load_language_model(name)
        return Opened(name, model, tokenizer=tokenizer)
    model, tokenizer = load_classifier(name)
    made = (getattr(model.config, "architectures", None) or [""])[0]
    if not made.endswith(CLASSIFIER):
        raise _no_classifier(name, made, ", no language model that tells the next token, and")
    return Opened(name, model, tokenizer=tokenizer)


def _no_classifier(name: str, made: str, what: str = "") -> SecateursError:
    return SecateursError(
        f"{name} is {made or 'a model'}{what} without a classifier; make one with: secateurs finetune {name}"
    )


def _built(name: str, weights: str | None) -> nn.Module:
    model = call(name)
    if not isinstance(model, nn.Module):
        raise SecateursError(f"{name} returned {type(model).__name__}, not a torch.nn.Module")
    if weights is not None:
        try:
            model.load_state_dict(_state(weights))
        except (RuntimeError, TypeError, AttributeError) as error:
            raise SecateursError(f"{weights} is not the state of {name}: {_differs(error)}") from error
    return model.cpu().eval()


def _state(file: str) -> Mapping[str, Any]:
    if not Path(file).is_file():
        raise SecateursError(f"no file {file}; give the weights as a safetensors or PyTorch file")
    try:
        if file.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(file)
        state: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state
    except OSError:
        raise
    except Exception as error:  # each format fails in its own way, and at length
        raise SecateursError(
            f"{file} holds no weights that can be read: give a safetensors file, or a state_dict saved by torch.save"
        ) from error


def _differs(error: Exception) -> str:
    """The first of what torch lists: the keys that are missing or too many, or the shapes that differ."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[1] if len(lines) > 1 else (lines or [type(error).__name__])[0]
    return first if len(first) <= 160 else f"{first[:157]}..."


def _artifact(directory: Path, trusted: Collection[str]) -> Opened:
    build = read_build(directory)
    if isinstance(build, Function):
        return Opened(str(directory), load(directory, _allowed(directory, build, trusted)), build.target)
    tokenizer = None
    if build is not None and any(directory.glob("tokenizer*")):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(directory))
    return Opened(str(directory), load(directory), tokenizer=tokenizer)


def _allowed(directory: Path, build: Function, trusted: Collection[str]) -> Callable[[], nn.Module] | None:
    """The function an artifact names, where the user named it too; None where it comes with secateurs."""
    if build.target in _targets(trusted):
        return partial(function(build.target), **build.arguments)
    if not _may_run(build, trusted):
        raise SecateursError(
            f"{directory} is built by {build.target}, which is code to run: allow it by --build {build.target}"
        )
    return None


def _may_run(build: Function, trusted: Collection[str]) -> bool:
    return build.target.startswith("secateurs.tasks.") or build.target in _targets(trusted)


def _targets(trusted: Collection[str]) -> set[str]:
    return {Function(name).anchored().target for name in trusted}


def open_layout(name: str, trusted: Collection[str] = ()) -> nn.Module:
    """Open a network for its shape alone: a transformers directory needs a config, but no weights.

    Args:
        name: As ``open_model`` takes it. What a config describes is built on the meta device, however large it is.
        trusted: As ``open_model`` takes it.

    Raises:
        SecateursError: No such model.
    """
    if is_function(name) or (Path(name) / "manifest.json").is_file():
        return open_model(name, trusted=trusted).model
    from secateurs.tasks.pretrained import check_place

    check_place(name)
    try:
        import transformers
    except ImportError as error:
        raise SecateursError("transformers models need: pip install 'secateurs[transformers]'") from error
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        made = getattr(transformers, (config.architectures or [""])[0], None)
        default: Any = transformers.AutoModel
        with torch.device("meta"):
            model: nn.Module = made(config) if made else default.from_config(config)
    except Exception as error:  # each model's config fails in its own way
        if not Path(name).exists():
            why = f"cannot be had from the hub ({type(error).__name__}); give a local directory"
            raise SecateursError(f"no directory '{name}', and it {why}") from error
        raise SecateursError(f"{name} is no model that transformers can build: {_first_line(error)}") from error
    return model.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# --------------------------------------------------------------------------------------------------------------- tasks


def open_task(task: TaskName, opened: Opened) -> Task:
    """Open a task.

    Args:
        task: What the user calls it.
        opened: The network it is for; a task of texts takes its tokenizer and its classes.

    Raises:
        SecateursError: No such task, or its data cannot be used.
    """
    if is_function(task.name):
        made = call(task.name)
        if not isinstance(made, Task):
            raise SecateursError(f"{task.name} returned {type(made).__name__}, not a secateurs.Task")
        return made
    if task.name == "mnist":
        from secateurs.tasks.mnist import mnist

        return mnist()
    if task.name == LANGUAGE:
        from secateurs.tasks.language_modelling import language_modelling

        return language_modelling(opened.model, opened.tokenizer, language_data(task.options))
    return _texts(task, opened)


def _texts(task: TaskName, opened: Opened) -> Task:
    from secateurs.tasks.text_classification import text_classification

    data = text_data(task.name, task.options)
    if opened.tokenizer is None:
        raise SecateursError(f"task {task.name} needs a model with a tokenizer, and {opened.name} has none")
    made = type(opened.model).__name__
    if not made.endswith(CLASSIFIER):
        raise _no_classifier(opened.name, made)
    return text_classification(opened.model, opened.tokenizer, data)


def recorded_task(name: str) -> TaskName | None:
    """The task an artifact was made for, where it is one that comes with secateurs; None otherwise.

    Args:
        name: Of a network, as ``open_model`` takes it.
    """
    if not (Path(name) / "manifest.json").is_file():
        return None
    said = read_manifest(name).get("task_name") or {}
    # A function is code to run; that is for the user to name.
    if "name" not in said or is_function(said["name"]):
        return None
    return TaskName(said["name"], said.get("options", {}))


def untold(name: str, trusted: Collection[str] = ()) -> SecateursError:
    """What to say where no task is known: the one that an artifact names, and every option that allows its code.

    Args:
        name: Of a network, as ``open_model`` takes it.
        trusted: Functions that may be run to build it.
    """
    if not Path(name).exists() and not is_function(name):
        return SecateursError(
            f"no directory or file '{name}': give that of a model or an artifact; a name on the hub does not say what "
            "it is for, so give --task with it"
        )
    if not (Path(name) / "manifest.json").is_file():
        return SecateursError(
            f"{name} does not say what it is for: give --task mnist, text, glue/... or file.py:function"
        )
    said = read_manifest(name).get("task_name") or {}
    if "name" not in said:
        return SecateursError(f"{name} does not say what it is for: give --task")
    wanted, build = [f"--task {shlex.quote(said['name'])}"], read_build(name)
    if isinstance(build, Function) and not _may_run(build, trusted):
        wanted.append(f"--build {shlex.quote(build.target)}")
    return SecateursError(
        f"{name} was made for {said['name']}, and code that a file names is not run by itself: allow it by "
        + " ".join(wanted)
    )
