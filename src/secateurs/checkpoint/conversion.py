"""Between the names and layouts of a checkpoint and those of the network, as transformers has them.

Some classes keep tensors in another form than their checkpoints (the experts of a layer stacked in one tensor, a fused
projection apart). transformers has rules for each class, which it applies to a whole checkpoint; here they are applied
to as little of it as makes one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from secateurs.types import SecateursError

Read = Callable[[str], Tensor]


@dataclass(frozen=True, eq=False)
class Made:
    """Tensors of the network that are made together.

    Args:
        targets: Their names.
        sources: Names in the checkpoint -> the pattern of the rule that each goes by, where there is one.
        rule: The rule of transformers; None where the tensor is taken as it is.
    """

    targets: tuple[str, ...]
    sources: dict[str, str | None] = field(default_factory=dict)
    rule: Any = None

    def __call__(self, model: nn.Module, read: Read) -> dict[str, Tensor]:
        """Read the sources and make the targets.

        Raises:
            SecateursError: The rule does not fit what the checkpoint holds.
        """
        if self.rule is None:
            (source,) = self.sources
            return {self.targets[0]: read(source)}
        rule = deepcopy(self.rule)
        for source, pattern in self.sources.items():
            rule.add_tensor(self.targets[0], source, pattern, lambda source=source: read(source))
        try:
            made = rule.convert(self.targets[0], model=model, config=model.config)
        except SecateursError:
            raise
        except Exception as error:
            raise SecateursError(
                f"{self.targets[0]} cannot be made from {next(iter(self.sources))} and those beside it: {error}"
            ) from error
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True, eq=False)
class Conversions:
    """How the tensors of a network are made from those of a checkpoint.

    Args:
        made: Name in the network, tied ones included -> how it is made.
        rules: The rules of transformers that were of use, as it remembers them of a network that it has loaded.
        strange: Names in the checkpoint that the network has no place for.
    """

    made: Mapping[str, Made]
    rules: tuple[Any, ...]
    strange: tuple[str, ...] = ()


def conversions(model: Any, stored: Iterable[str]) -> Conversions:
    """How each tensor of a network is made from those of a checkpoint.

    Args:
        model: A transformers model, on any device.
        stored: Names in the checkpoint.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern: dict[str | None, Any] = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    state = model.state_dict()
    prefix = model.base_model_prefix
    groups: dict[str, Made] = {}
    strange: list[str] = []
    for name in sorted(stored, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, prefix, state)
        if target not in state and name in state:
            target, pattern = name, None
        if target not in state:
            strange.append(name)
            continue
        rule: Any = by_pattern.get(pattern)
        others = rule.target_patterns[1:] if rule is not None else ()
        targets = (target, *(target.replace(rule.target_patterns[0], other) for other in others))
        made = groups.setdefault(target, Made(targets, {}, rule))
        if rule is not None or not made.sources:
            made.sources[name] = pattern
    made_by_name = {name: made for made in groups.values() for name in made.targets}
    return Conversions(made_by_name, tuple(rule for rule in rules if rule.was_used()), tuple(strange))


def restored(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a network by the names and in the layout that its checkpoints have.

    Args:
        model: The transformers model, on any device; where it remembers the rules of its checkpoint, those are undone.
        tensors: Name in the network -> tensor; whole blocks, since some stored tensors are made of several.
    """
    from transformers.core_model_loading import revert_weight_conversion

    back: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    return back
