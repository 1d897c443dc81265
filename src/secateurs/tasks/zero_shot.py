"""What a language model can do without training for it: the usual sets through lm-evaluation-harness, from local files.

Prompts, normalisation and metrics are the harness's own (Gao et al. 2021, doi:10.5281/zenodo.5371628), so that a figure
means what the field means by it. Nothing is fetched: the rows come from files.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from torch import nn

from secateurs.measures.instruments.forward import inference
from secateurs.measures.instruments.intervals import wilson
from secateurs.measures.instruments.progress import Pulse
from secateurs.tasks.pretrained import quiet
from secateurs.tasks.zero_shot_data import Row, Set, sets
from secateurs.types import Reading, SecateursError

logger = logging.getLogger("secateurs.tasks")


@dataclass(frozen=True)
class ZeroShot:
    """Evaluate a language model: ``ZeroShot(("lambada", "hellaswag"), Path("data"))(model, tokenizer)``.

    Args:
        tasks: ``lambada``, ``hellaswag``, ... (see ``zero_shot_data.sets``).
        data: Directory of the files.
        limit: At most this many examples of each, evenly spaced over the file; None: all.
        few_shot: Solved examples shown before each question, drawn from the same file, never the one asked.
        batch_size: Sequences of a forward pass.
        seed: Of the draw of examples shown.

    Raises:
        SecateursError: No such task, a file is missing or has other columns, or a number is out of range.
    """

    tasks: tuple[str, ...]
    data: Path
    limit: int | None = None
    few_shot: int = 0
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check before any work."""
        known = sets()
        if not self.tasks:
            raise SecateursError(f"no task to evaluate on; give some of: {', '.join(known)}")
        for name in self.tasks:
            if name not in known:
                raise SecateursError(f"no task '{name}' to evaluate on; give some of: {', '.join(known)}")
            known[name].file(self.data)
        for name, least in {"limit": 1, "few_shot": 0, "batch_size": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SecateursError(f"{name} must be at least {least}, got {value}")

    def __call__(self, model: nn.Module, tokenizer: Any) -> dict[str, Reading]:
        """Evaluate; the model's mode and the random state are left as they were.

        Args:
            model: A causal or encoder-decoder model of transformers, pruned or not.
            tokenizer: Its own.

        Returns:
            ``<task>/<metric>`` -> reading, with its 95 % interval.

        Raises:
            SecateursError: lm-evaluation-harness is not installed, a file cannot be used, or this is no such model.
        """
        version = _installed()
        if tokenizer is None or not hasattr(model, "generate") or not hasattr(model, "config"):
            raise SecateursError(
                f"{type(model).__name__} cannot be asked: it takes a transformers language model with its tokenizer"
            )
        if getattr(tokenizer, "eos_token_id", None) is None:
            raise SecateursError("the tokenizer has no token that ends a text (eos_token); the harness needs one")
        known, found = sets(), dict[str, Reading]()
        for number, name in enumerate(dict.fromkeys(self.tasks), start=1):
            logger.info("%s (%d of %d)", name, number, len(self.tasks))
            of = known[name]
            every = of.rows(self.data)
            chosen = spaced(every, self.limit)
            try:
                results = self._evaluated(model, tokenizer, of, chosen)
            except AssertionError as error:  # such as a context too short for what it generates
                why = str(error) or "a question is longer than what the model reads at once"
                raise SecateursError(f"the harness cannot ask {name}: {why}") from error
            part = f", {len(chosen)} of {len(every)} examples" if len(chosen) < len(every) else ""
            how = f"{of.task}, version {results['versions'][of.task]}, {self.few_shot}-shot{part}"
            for metric, reading in _readings(results["results"][of.task], len(chosen), how, version).items():
                found[f"{name}/{metric}"] = reading
        return found

    def _evaluated(self, model: nn.Module, tokenizer: Any, of: Set, rows: Sequence[Row]) -> Mapping[str, Any]:
        with inference(model), _silent(), _counted(model, of.task), TemporaryDirectory(prefix="secateurs-") as place:
            from lm_eval import simple_evaluate
            from lm_eval.models.huggingface import HFLM
            from lm_eval.tasks import TaskManager

            _write_task(of, rows, Path(place))
            asked: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=self.batch_size)
            results: Mapping[str, Any] = simple_evaluate(
                asked,
                tasks=[of.task],
                task_manager=TaskManager(include_path=place, include_defaults=False),
                num_fewshot=self.few_shot,
                log_samples=False,
                # The caller's random state stays.
                random_seed=None,
                numpy_random_seed=None,
                torch_random_seed=None,
                fewshot_random_seed=self.seed,
            )
        return results


def _write_task(of: Set, rows: Sequence[Row], place: Path) -> None:
    """The rows, and the harness's own task which reads them instead of the hub."""
    import datasets

    datasets.Dataset.from_list([dict(row) for row in rows]).to_parquet(str(place / "rows.parquet"))
    task = {
        "include": str(_definition(of)),
        "task": of.task,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(place / "rows.parquet")}, "cache_dir": str(place / "cache")},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "test",
    }
    (place / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def _definition(of: Set) -> Path:
    """The file of the harness that defines the task."""
    import lm_eval.tasks

    for path in sorted((Path(lm_eval.tasks.__file__).parent / of.folder).glob("*.yaml")):
        if re.search(rf"^task: {of.task}$", path.read_text(encoding="utf-8"), re.MULTILINE):
            return path
    raise SecateursError(f"lm_eval {metadata.version('lm_eval')} has no task {of.task}; install another version")


def spaced(rows: Sequence[Row], limit: int | None) -> Sequence[Row]:
    """At most ``limit`` rows, evenly spaced: files are often sorted.

    Args:
        rows: All.
        limit: None: all.
    """
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]


def _installed() -> str:
    try:
        import lm_eval.models.huggingface  # noqa: F401
    except ImportError as error:
        raise SecateursError("evaluation on these sets needs: pip install 'secateurs[evaluation]'") from error
    return metadata.version("lm_eval")


def _readings(results: Mapping[str, Any], n: int, how: str, version: str) -> dict[str, Reading]:
    """One per metric; the interval of a fraction is Wilson's, any other is 1.96 standard errors wide on a log scale."""
    found = {}
    for key, given in results.items():
        metric, _, chosen = key.partition(",")
        if not chosen or metric.endswith("_stderr"):
            continue
        value, error = float(given), _number(results.get(f"{metric}_stderr,{chosen}"))
        spread = None
        if 0 <= value <= 1 and abs(value * n - round(value * n)) < 1e-6:
            spread = wilson(round(value * n), n)
        elif error is not None and error < 100 * value:  # beyond that it says nothing, and overflows
            spread = value * math.exp(-1.96 * error / value), value * math.exp(1.96 * error / value)
        note = how if error is None else f"{how}, standard error {error:.4g}"
        found[metric] = Reading(metric, value, "1", "measured", spread, f"lm_eval {version}", n, note)
    return found


def _number(value: Any) -> float | None:
    """The harness writes N/A where it has none."""
    return float(value) if isinstance(value, int | float) else None


@contextmanager
def _silent() -> Iterator[None]:
    """The harness and its libraries without log lines, bars and warnings."""
    import datasets

    noise = logging.getLogger("lm_eval")
    level, bars = noise.level, datasets.are_progress_bars_disabled()
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noise.setLevel(logging.CRITICAL)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            noise.setLevel(level)
            if not bars:
                datasets.enable_progress_bars()


@contextmanager
def _counted(model: nn.Module, task: str) -> Iterator[None]:
    """A line on how many forward passes there were, at most once a second."""
    pulse, passes = Pulse(logger), 0

    def say(*_: Any) -> None:
        nonlocal passes
        passes += 1
        pulse.say("%s: forward pass %d", task, passes)

    handle = model.register_forward_pre_hook(say)
    try:
        yield
    finally:
        handle.remove()
