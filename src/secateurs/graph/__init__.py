"""The network as a set of named dims, found by running it once."""

from __future__ import annotations

from torch import nn

from secateurs.graph import naming
from secateurs.graph.network import Graph, Sum
from secateurs.graph.rules import rule_for
from secateurs.graph.trace import Trace, run
from secateurs.types import Inputs, SecateursError

__all__ = ["Graph", "Sum", "trace"]


def trace(model: nn.Module, example_inputs: Inputs) -> Graph:
    """Find the dims of a network by one forward pass.

    Args:
        model: Any network that runs; left as it was.
        example_inputs: Arguments of its forward, on its device.

    Raises:
        SecateursError: where the forward pass fails on these inputs.
    """
    found = Trace()
    try:
        run(found, model, example_inputs, rule_for)
    except SecateursError:
        raise
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise SecateursError(
            f"the model's forward pass fails on the example inputs: {type(error).__name__}: {line}"
        ) from error
    return naming.build(model, found)
