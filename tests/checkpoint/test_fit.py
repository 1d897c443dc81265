"""Weights that are not the network's are told by their names and shapes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from torch import nn

from secateurs.checkpoint.fit import check, check_strange
from secateurs.types import SecateursError

HERE = Path("here")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2, device="meta"), nn.Linear(2, 2, device="meta"))


def test_what_fits_is_fine() -> None:
    names = dict(network().named_parameters())
    check(network(), HERE, names, {name: tuple(it.shape) for name, it in names.items()})
    check_strange(network(), HERE, names, [])


def test_what_is_missing_and_what_is_unlike() -> None:
    with pytest.raises(SecateursError, match=r"here does not hold 0\.bias, 1\.weight, 1\.bias \(3 parameters of Seq"):
        check(network(), HERE, ["0.weight"], {})
    names = [name for name, _ in network().named_parameters()]
    with pytest.raises(SecateursError, match=r"0\.weight is \(2, 4\), by its config the network has \(2, 3\):"):
        check(network(), HERE, names, {"0.weight": (2, 4), "1.weight": (2, 2)})


def test_layers_beyond_the_config_are_refused_and_other_things_told(caplog: pytest.LogCaptureFixture) -> None:
    net = network()
    net._keys_to_ignore_on_load_unexpected = [r"^7\."]  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        check_strange(net, HERE, ["0.weight", "a.1.b"], ["7.weight", "oak", "0.scale"])
    assert caplog.messages == ["here holds oak, 0.scale, which Sequential has no place for: left out"]
    with pytest.raises(SecateursError, match=r"holds a\.2\.b, and its config asks for fewer"):
        check_strange(net, HERE, ["0.weight", "a.1.b"], ["a.2.b", "oak"])
