from __future__ import annotations

from collections import UserDict

import pytest
import torch
from torch import nn

from secateurs.measures.instruments.forward import call, device_of, inference, prepared, rows_in, shapes, threads
from secateurs.types import SecateursError

CPU = torch.device("cpu")


def test_batch_is_repeated_and_cut_for_every_tensor_that_carries_it():
    inputs = {"x": torch.arange(6).view(3, 2), "mask": torch.ones(3), "table": torch.arange(5), "flag": True}
    larger = prepared(inputs, CPU, 7)
    assert larger["x"][:, 0].tolist() == [0, 2, 4, 0, 2, 4, 0]
    assert larger["mask"].shape == (7,)
    assert larger["table"].tolist() == [0, 1, 2, 3, 4]
    assert larger["flag"] is True
    assert prepared(inputs, CPU, 1)["x"].tolist() == [[0, 1]]
    assert inputs["x"].shape == (3, 2)


def test_by_position_too():
    assert [tuple(t.shape) for t in prepared((torch.zeros(2, 4), torch.zeros(2)), CPU, 3)] == [(3, 4), (3,)]
    assert shapes(prepared((torch.zeros(2, 4), 5), CPU)) == "(2, 4)"
    assert call(nn.Bilinear(2, 3, 4), (torch.zeros(1, 2), torch.zeros(1, 3))).shape == (1, 4)
    assert call(nn.Linear(2, 3), {"input": torch.zeros(1, 2)}).shape == (1, 3)


def test_refuses_a_batch_that_cannot_be():
    with pytest.raises(SecateursError, match="batch_size is 0"):
        prepared((torch.zeros(1),), CPU, 0)
    with pytest.raises(SecateursError, match="no tensor with a batch dimension"):
        prepared((torch.tensor(1.0), 3), CPU, 2)


def test_modes_come_back_even_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), inference(model):
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(3)
        raise ZeroDivisionError
    assert [m.training for m in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_come_back():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_rows_of_whatever_a_loader_gives():
    assert rows_in(torch.zeros(4, 2)) == 4
    assert rows_in([torch.tensor(1.0), {"name": "a", "x": torch.zeros(3)}]) == 3
    assert rows_in(UserDict(input_ids=torch.zeros(5, 2))) == 5
    assert rows_in("text") == 1


def test_device():
    assert device_of(nn.ReLU()) == CPU
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm1d(2, affine=False)) == CPU
