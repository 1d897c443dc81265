"""What jobs on a checkpoint on disk have in common: any size, one block in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from secateurs.blocks import chains
from secateurs.checkpoint import Checkpoint
from secateurs.job.examples import of_config
from secateurs.job.finetuning import open_device
from secateurs.job.named_data import language_data
from secateurs.job.output import claimed
from secateurs.measures.instruments.forward import prepared
from secateurs.names import is_function
from secateurs.recipe import Recipe, load_recipe
from secateurs.shelf import given_back
from secateurs.types import Inputs, SecateursError

if TYPE_CHECKING:
    from secateurs.tasks.language_modelling import LanguageData

Made = TypeVar("Made")

PRECISIONS = ("highest", "high", "medium")
"""How exactly torch multiplies float32 matrices: as such, or by parts or wholes in bfloat16 where there is hardware."""

ANY = "`secateurs prune` takes a network that a function builds, with a task of your own"


@dataclass(frozen=True)
class Wanted:
    """What is asked of such a job; plain values.

    Args:
        sparsity: Fraction that goes.
        recipe: Name of a shipped recipe, or a file.
        output: Directory to make; None: the model's name and what becomes of it.
        shelf: An existing directory where calibration batches lie while they wait; None: in memory.
        matmul: As ``torch.set_float32_matmul_precision`` takes it.
        device: Where to compute, as torch calls it.
    """

    sparsity: float
    recipe: str
    output: str | None = None
    shelf: str | None = None
    matmul: str = "medium"
    device: str = "cpu"

    def checked(self, check: Callable[[Recipe, float], None]) -> Recipe:
        """The recipe, if all of this can be used; nothing is written.

        Args:
            check: Of the recipe and the sparsity.

        Raises:
            SecateursError: Something cannot.
        """
        recipe = load_recipe(self.recipe)
        check(recipe, self.sparsity)
        if self.matmul not in PRECISIONS:
            raise SecateursError(f"matmul must be one of {', '.join(PRECISIONS)}, got '{self.matmul}'")
        if self.shelf is not None and not Path(self.shelf).is_dir():
            raise SecateursError(f"no directory {self.shelf}; make it, on a disk with room, or leave --shelf out")
        return recipe


@dataclass(frozen=True)
class Method(Generic[Made]):
    """What is done with a checkpoint.

    Args:
        run: ``prune_checkpoint`` or ``shrink_checkpoint``.
        check: Refuses a recipe, or a sparsity, that it cannot carry out.
        ending: Of the directory's name where none is asked for.
    """

    run: Callable[[Checkpoint, Sequence[Inputs], Recipe, float, Path, str | None], Made]
    check: Callable[[Recipe, float], None]
    ending: str


@dataclass(frozen=True)
class Done(Generic[Made]):
    """What came of it.

    Args:
        written: The directory, and what is in it.
        seconds: That this run took.
        peak_bytes: The most memory that this process has held; None where the system does not tell.
        files: Of weights.
        size_bytes: Of these files.
    """

    written: Made
    seconds: float
    peak_bytes: int | None
    files: int
    size_bytes: int


def run_named(model: str, data: Mapping[str, Any], wanted: Wanted, method: Method[Made]) -> Done[Made]:
    """Open the checkpoint and the text and prune the one on the other.

    Args:
        model: A transformers directory with safetensors, a GGUF file, or a directory with one.
        data: Fields of ``LanguageData`` that say what to calibrate on; a recipe that looks at weights alone needs none.
        wanted: How much, how, and where it goes.
        method: What is done.

    Raises:
        SecateursError: Something of it cannot be used; nothing was written then. Or what the method refuses.
    """
    began = time.monotonic()
    recipe, device = wanted.checked(method.check), open_device(wanted.device)
    if recipe.uses_data and not data.get("train"):
        raise SecateursError(
            f"recipe {wanted.recipe} looks at activations: give --data, a text or token ids, or take one that looks at "
            "the weights alone, such as magnitude"
        )
    text = language_data(data) if recipe.uses_data else None
    place = _checked_place(model)
    name = place.resolve().stem if place.is_file() else place.resolve().name
    output = Path(wanted.output or f"{name}-{method.ending}")
    lean = given_back() if wanted.shelf else nullcontext()
    with claimed(output), _multiplied(wanted.matmul), lean:
        source = Checkpoint.open(place)
        chains(source.model)  # refused here, before a long text is read
        batches = [of_config(source.model, ANY)] if text is None else _batches(source, text)
        batches = [prepared(it, device) for it in batches]
        written = method.run(source, batches, recipe, wanted.sparsity, output, wanted.shelf)
    sizes = [file.stat().st_size for file in output.glob("*.safetensors")]
    return Done(written, time.monotonic() - began, _peak_bytes(), len(sizes), sum(sizes))


def _batches(source: Checkpoint, text: LanguageData) -> list[Inputs]:
    from secateurs.tasks.language_modelling import calibration
    from secateurs.tasks.pretrained import load_tokenizer
    from secateurs.tasks.tokens import IDS

    needed = text.bos or Path(str(text.train)).suffix not in IDS
    stored = source.files[0] if source.files[0].suffix == ".gguf" else source.path
    return calibration(source.model, load_tokenizer(str(stored)) if needed else None, text)


def _checked_place(model: str) -> Path:
    place = Path(model)
    if is_function(model):
        raise SecateursError(f"{model} is a function, and this prunes what lies on disk; secateurs prune takes it")
    if not place.exists():
        raise SecateursError(
            f"no directory or file '{model}': give a transformers directory or a GGUF file; a model of the hub is "
            "fetched first: hf download NAME --local-dir DIRECTORY"
        )
    if (place / "manifest.json").is_file():
        raise SecateursError(f"{model} is an artifact; make it plain first: secateurs export {model} --output PLAIN")
    return place


@contextmanager
def _multiplied(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _peak_bytes() -> int | None:
    """By Linux; what ``getrusage`` tells may be of the process that began this one."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
