from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.measures.instruments.tensors import distinct, home, nonzero, stored, values

BETA = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


@BETA
def test_every_layout():
    dense = torch.zeros(8, 8)
    dense[0, :3] = torch.tensor([1.0, 2.0, 3.0])
    for tensor in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csr().t()):
        assert (stored(tensor), nonzero(tensor), values(tensor).numel()) == (3, 3, 3)
    assert (stored(dense), nonzero(dense)) == (64, 3)
    block = dense.to_sparse_bsr((4, 4))
    assert (stored(block), nonzero(block)) == (16, 3)


@BETA
def test_views_have_one_home():
    whole = torch.zeros(4, 6)
    assert home(whole) == home(whole[2:]) == home(whole.t()) != home(whole.clone())
    sparse = torch.eye(4).to_sparse_csr()
    assert home(sparse) == home(sparse.t())


def test_distinct_goes_by_storage():
    weight = torch.zeros(4, 6)
    twice = nn.Parameter(weight)
    assert len(list(distinct([weight, twice, weight.clone()]))) == 2
    assert len(list(distinct([weight[:2], weight[2:]]))) == 2
    assert len(list(distinct([torch.zeros(2, device="meta"), torch.zeros(2, device="meta")]))) == 2
