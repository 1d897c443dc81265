"""The network as a set of named dims, found by running it once."""

from __future__ import annotations

from torch import nn

from secateurs.graph import naming
from secateurs.graph import scales as scaling
from secateurs.graph.network import Graph, Sum
from secateurs.graph.rewrite import freed, record
from secateurs.graph.rules import rule_for
from secateurs.graph.scales import Scale
from secateurs.graph.trace import Trace, run, unswept
from secateurs.graph.weightless import UnknownValueError, weightless
from secateurs.types import Inputs, SecateursError

__all__ = ["Graph", "Scale", "Sum", "recorded", "scales", "trace"]


def trace(model: nn.Module, example_inputs: Inputs) -> Graph:
    """Find the dims of a network by one forward pass.

    Args:
        model: Any network that runs; left as it was.
        example_inputs: Arguments of its forward, on its device.

    Raises:
        SecateursError: where the forward pass fails on these inputs.
    """
    with weightless(model), unswept():
        found = Trace()
        _run(found, model, example_inputs)
        return naming.build(model, found)


def scales(model: nn.Module, example_inputs: Inputs) -> dict[str, Scale]:
    """The parameters that multiply an activation position by position, by name, and who reads the product.

    Args:
        model: Any network that runs; left as it was.
        example_inputs: Arguments of its forward, on its device.

    Raises:
        SecateursError: where the forward pass fails on these inputs.
    """
    with unswept():
        found = Trace()
        _run(found, model, example_inputs)
        return scaling.find(found.flow, found.weights)


def _run(found: Trace, model: nn.Module, example_inputs: Inputs) -> None:
    try:
        run(found, model, example_inputs, rule_for)
    except UnknownValueError as error:
        raise UnknownValueError(f"{found.flow.module or 'the model'}: {error}") from error
    except SecateursError:
        raise
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise SecateursError(
            f"the model's forward pass fails on the example inputs: {type(error).__name__}: {line}"
        ) from error


def recorded(graph: Graph, model: nn.Module, example_inputs: Inputs) -> Graph:
    """The same network with its operators written down: what Python refuses to shrink may then be rewritten.

    A dim that is frozen as numbers are made for it in the forward pass is free where the operators let them be picked.

    Args:
        graph: The trace of ``model``.
        model: Left as it is.
        example_inputs: Arguments of its forward.

    Raises:
        RewriteError: The network cannot be written down.
    """
    return freed(graph, record(model, example_inputs))
