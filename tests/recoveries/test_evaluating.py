from __future__ import annotations

import pytest
from torch import nn

from secateurs.recoveries._evaluating import evaluating


def test_every_module_gets_its_own_mode_back_whatever_happens() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    network[1].eval()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == [True, True, False]
