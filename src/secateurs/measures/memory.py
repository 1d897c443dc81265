"""Memory: the bytes held at the peak of a forward pass, by the model and by what the pass allocates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from secateurs.measures.instruments.clock import synchronise
from secateurs.measures.instruments.forward import call, device_of, inference, prepared
from secateurs.measures.instruments.tensors import distinct, values
from secateurs.types import Inputs, Reading, SecateursError, Task


@dataclass(frozen=True)
class Memory:
    """Bytes of parameters and buffers plus the peak of what one forward pass holds at once, its output included.

    Allocations are read one by one, so the number is exact and repeats; the inputs, the Python process and the
    library's own pages are not in it.

    Args:
        batch_size: Repeat or cut the inputs to this size; None leaves them.

    Raises:
        SecateursError: On the call: the forward pass fails, or the device is neither a CPU nor a CUDA GPU.
    """

    batch_size: int | None = None
    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        device = device_of(model)
        if device.type not in {"cpu", "cuda"}:
            raise SecateursError(f"memory can be measured on cpu and cuda, not on {device.type}")
        inputs = prepared(task.example_inputs, device, self.batch_size)
        peak, source = (_on_cpu, "torch profiler") if device.type == "cpu" else (_on_cuda, "CUDA allocator")
        with inference(model):
            try:
                call(model, inputs)  # libraries allocate their own once
                passing = peak(model, inputs)
            except Exception as error:
                raise SecateursError(f"the model fails on the example inputs: {error}") from error
        held = sum(
            values(t).numel() * values(t).element_size() for t in distinct((*model.parameters(), *model.buffers()))
        )
        return Reading("memory", held + passing, "B", "measured", source=source, note=f"of which weights {held} B")


def _on_cpu(model: nn.Module, inputs: Inputs) -> int:
    """The highest sum of allocations less releases, in the order in which the allocator reported them."""
    from torch.autograd.profiler import profile

    trace: Any = profile(profile_memory=True)
    with _silent_stderr():
        trace.__enter__()
    try:
        call(model, inputs)
    finally:
        with _silent_stderr():
            trace.__exit__(None, None, None)
    now = peak = 0
    events = [e for e in trace.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def _on_cuda(model: nn.Module, inputs: Inputs) -> int:
    device = device_of(model)
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call(model, inputs)
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler writes a line to the process's stderr, past Python, each time it starts and stops."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # a process without stderr
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
