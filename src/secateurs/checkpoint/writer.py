"""A transformers directory written part by part, which may be interrupted at any moment and taken up again.

All is prepared in ``<directory>.partial``: the shards in its ``files``, each written aside and renamed when it is on
the disk, and beside them a journal entry for each with its digest. When the last part is written, index, config and
tokenizer are added and ``files`` is renamed to the directory's own name: it is there whole, or it is not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.archive import cause, plain, sync, write_plain
from secateurs.checkpoint.checkpoint import Checkpoint, give_
from secateurs.checkpoint.conversion import conversions, restored
from secateurs.checkpoint.gguf import Gguf
from secateurs.checkpoint.shards import INDEX, Shards
from secateurs.types import SecateursError, few

FORMAT = 1
SHORT = 30
"""Characters of two values that a message shows."""
log = logging.getLogger("secateurs.checkpoint")


class Writer:
    """Writes a network like that of a checkpoint: the same class, config and names.

    Args:
        directory: What to make; must not exist.
        checkpoint: What the network was read from: its names, config and tokenizer.
        parts: Names of the parts, in the order of the shards; blocks as a rule.
        job: Whatever tells this job from others with the same source (recipe, sparsity, calibration): JSON takes it.

    Raises:
        SecateursError: The directory exists, or another job has begun it, or it cannot be written.
    """

    def __init__(self, directory: str | Path, checkpoint: Checkpoint, parts: Sequence[str], job: Any = None) -> None:
        self.directory = Path(directory)
        self.checkpoint = checkpoint
        self.parts = tuple(parts)
        self._numbers = {part: number for number, part in enumerate(self.parts, 1)}
        self._partial = self.directory.with_name(f"{self.directory.name}.partial")
        self._files = self._partial / "files"
        self._journal = self._partial / "journal"
        self._done: dict[str, dict[str, Any]] = {}
        about = {"format": FORMAT, "source": checkpoint.fingerprint, "job": plain(job), "parts": list(self.parts)}
        if self.directory.exists() or self.directory.is_symlink():
            if self._partial.is_dir() and not self._files.exists():  # stopped between the rename and the tidying up
                shutil.rmtree(self._partial)
            raise SecateursError(f"{self.directory} exists: give a directory that does not, or remove it")
        with self._told("cannot be written", "give another directory"):
            self._open(about)

    @property
    def finished(self) -> tuple[str, ...]:
        """Parts that are on the disk and whole, in their order."""
        return tuple(part for part in self.parts if part in self._done)

    @property
    def notes(self) -> dict[str, Any]:
        """What was written down about each finished part."""
        return {part: self._done[part]["note"] for part in self.finished}

    def write(self, part: str, tensors: Mapping[str, Tensor], note: Any = None) -> None:
        """Write one part; when this returns it is on the disk.

        Args:
            part: One of the parts.
            tensors: Name in the network -> tensor, whole blocks; a tied tensor under one name. Empty for a part that
                has nothing of its own.
            note: Anything JSON takes, given back by ``notes`` when the job is taken up again.

        Raises:
            SecateursError: The disk is full or cannot be written: finished parts stay.
        """
        aside = self._partial / "writing.safetensors"
        stored = restored(self.checkpoint.model, {name: t.detach().cpu() for name, t in tensors.items()})
        with self._told(f"{part} was not written"):
            write_plain(aside, stored, {"format": "pt"})
            entry = {"part": part, "file": self._shard(part), "digest": _digest(aside), "note": plain(note)}
            entry["tensors"] = {name: [t.numel() * t.element_size(), _word(t.dtype)] for name, t in stored.items()}
            os.replace(aside, self._files / self._shard(part))
            sync(self._files)
            _write_json(self._entry(part), entry)
        self._done[part] = entry

    def load_(
        self, part: str, model: nn.Module, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Give a network the tensors of a finished part, as they were written.

        Args:
            part: A finished one.
            model: From the checkpoint's ``empty``; changed in place.
            dtype: Of floating tensors; None leaves them as written.
            device: Where they go.

        Raises:
            SecateursError: The part is not finished, or cannot be read.
        """
        if part not in self._done:
            raise SecateursError(f"{part} is not written yet")
        shards = Shards.of([self._files / self._done[part]["file"]])
        made = conversions(self.checkpoint.model, shards.tensors).made
        for name in dict.fromkeys(group.targets[0] for group in made.values()):
            for target, tensor in made[name](self.checkpoint.model, shards.read).items():
                floating = dtype if tensor.is_floating_point() else None
                give_(model, target, tensor.to(device=device, dtype=floating), str(self.directory))

    def leave_out(self, parts: Collection[str]) -> None:
        """These parts the network is not to have; said before any part is written, and again when it is taken up."""
        self.parts = tuple(part for part in self.parts if part not in parts)

    def remember(self, name: str, value: Any) -> None:
        """Write down what the job need not find out again when it is taken up.

        Args:
            name: Of what; a plain word.
            value: Anything JSON takes.

        Raises:
            SecateursError: The disk is full or cannot be written.
        """
        with self._told(f"{name} was not written"):
            _write_json(self._journal / f"{name}.json", value)

    def remembered(self, name: str) -> Any:
        """What was written down under a name; None where nothing was."""
        path = self._journal / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @contextmanager
    def given_up_unless(self, parts: Collection[str]) -> Iterator[None]:
        """Where the body fails for what it was given, leave nothing behind, unless one of these parts is finished."""
        try:
            yield
        except SecateursError as error:
            if not isinstance(error.__cause__, OSError) and not set(parts) & set(self.finished):
                shutil.rmtree(self._partial)
            raise

    def finish(self, changes: Mapping[str, Any] | None = None) -> None:
        """Add index, config and tokenizer and give the directory its name.

        Args:
            changes: Fields of the config that are other than the checkpoint's.

        Raises:
            SecateursError: A part is missing, or the disk is full.
        """
        missing = [part for part in self.parts if part not in self._done]
        if missing:
            raise SecateursError(f"{self.directory} is not finished: {missing[0]} is not written yet")
        with self._told("was not finished"):
            self._add_companions(changes or {})
            self._add_index()
            for path in self._files.iterdir():
                sync(path)
            sync(self._files)
            os.rename(self._files, self.directory)
            sync(self.directory.parent)
        shutil.rmtree(self._partial)

    def _open(self, about: Mapping[str, Any]) -> None:
        job = self._partial / "job.json"
        if not job.exists():
            shutil.rmtree(self._partial, ignore_errors=True)  # stopped before anything was written
            for directory in (self._files, self._journal):
                directory.mkdir(parents=True)
            _write_json(job, about)
        elif unlike := _unlike(json.loads(job.read_text(encoding="utf-8")), about):
            raise SecateursError(
                f"{self._partial} was begun by a job with another {few(unlike)}: remove it, give another directory, or "
                "go on with the same"
            )
        for path in self._partial.glob("writing*"):
            path.unlink()
        for number, part in enumerate(self.parts, 1):
            if (entry := self._whole(part)) is not None:
                self._done[part] = entry
                log.info("part %d of %d, %s, is written already", number, len(self.parts), part)
        known = {entry["file"] for entry in self._done.values()}
        for path in self._files.iterdir():
            if path.name not in known:
                path.unlink()

    def _whole(self, part: str) -> dict[str, Any] | None:
        """The journal's entry, where there is one and the shard is as it says."""
        try:
            entry: dict[str, Any] = json.loads(self._entry(part).read_text(encoding="utf-8"))
            return entry if entry["part"] == part and entry["digest"] == _digest(self._files / entry["file"]) else None
        except (OSError, ValueError, KeyError):
            return None

    def _shard(self, part: str) -> str:
        return f"model-{self.parts.index(part) + 1:05d}-of-{len(self.parts):05d}.safetensors"

    def _entry(self, part: str) -> Path:
        return self._journal / f"{self._numbers[part]:05d}.json"

    def _add_index(self) -> None:
        places = {name: entry["file"] for entry in self._done.values() for name in entry["tensors"]}
        total = sum(size for entry in self._done.values() for size, _ in entry["tensors"].values())
        _write_json(
            self._files / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        )

    def _add_companions(self, changes: Mapping[str, Any]) -> None:
        """Config, generation and tokenizer; the config says of which type the numbers are, if the source's does not."""
        if isinstance(self.checkpoint.source, Gguf):
            self.checkpoint.config.save_pretrained(self._files)
            self._add_tokenizer()
        for path in self.checkpoint.companions():
            shutil.copyfile(path, self._files / path.name)
        config = self._files / "config.json"
        told = json.loads(config.read_text(encoding="utf-8"))
        held: dict[str, int] = {}
        for entry in self._done.values():
            for size, dtype in entry["tensors"].values():
                held[dtype] = held.get(dtype, 0) + size
        dtype = max(held, key=lambda word: held[word])
        if told.get("dtype", told.get("torch_dtype")) != dtype:
            told.pop("torch_dtype", None)
            changes = {**changes, "architectures": [type(self.checkpoint.model).__name__], "dtype": dtype}
        if changes:
            _write_json(config, {**told, **changes})

    def _add_tokenizer(self) -> None:
        from transformers import AutoTokenizer

        file = self.checkpoint.files[0]
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
            log.warning("%s: transformers makes no tokenizer of it, put one beside the weights: %s", file, error)
            return
        tokenizer.save_pretrained(self._files)

    @contextmanager
    def _told(self, what: str, mend: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            for path in self._partial.glob("writing*"):
                path.unlink(missing_ok=True)
            raise SecateursError(
                f"{self.directory}: {what}, {cause(error)}; "
                + (mend or f"finished parts stay in {self._partial.name}, run it again to go on")
            ) from error


def _unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two jobs differ, with the values where they are short."""
    if isinstance(before.get("job"), dict) and isinstance(now.get("job"), dict):
        before, now = ({**{k: v for k, v in it.items() if k != "job"}, **it["job"]} for it in (before, now))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    short = [key for key in keys if key in before and key in now and len(f"{before[key]}{now[key]}") < SHORT]
    return [f"{key} ({before[key]}, now {now[key]})" if key in short else key for key in keys]


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    """All of the file, or none of it."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)
