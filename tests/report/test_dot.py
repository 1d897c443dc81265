"""The text holds every module, every dim and every bond between them, and is safe whatever they are called."""

from __future__ import annotations

import re

from report.conftest import Cost, Inspected
from secateurs.report.dot import dot
from secateurs.types import Dim


def test_every_module_dim_and_bond(inspected: Inspected) -> None:
    text = dot("my net", inspected.costs, inspected.modules)
    assert text.startswith('graph "my net" {')
    assert re.findall(r'label="(\d\. \S+)"', text) == ["1. table", "2. net.{0-1}.up", "3. net.{0-1}.down", "4. head"]
    assert '"net.{0-1}, 2 times"' in text
    bonds = set(re.findall(r"m(\d) -- d(\d) ", text))
    assert bonds == {("0", "0"), ("0", "1"), ("1", "2"), ("1", "1"), ("2", "1"), ("2", "2"), ("3", "3"), ("3", "1")}


def test_frozen_dims_are_grey_and_say_why(inspected: Inspected) -> None:
    lines = dot("net", inspected.costs, inspected.modules).splitlines()
    (free,) = [line for line in lines if "ffn" in line]
    assert "5 neurons" in free and "10 parameters, 1.00 kMAC" in free and "#cfe8cf" in free
    (frozen,) = [line for line in lines if "8 width" in line]
    assert "dashed" in frozen and "a statistic is taken over it" in frozen


def test_braces_balance_and_quotes_are_escaped(inspected: Inspected) -> None:
    odd = Cost(Dim('a"b\\', 4, "neurons", ('a"b\\.weight[0]',)))
    text = dot('"; } graph', [*inspected.costs, odd], inspected.modules)
    bare = re.sub(r'"(\\.|[^"\\])*"', "", text)
    assert '"' not in bare
    assert bare.count("{") == bare.count("}")
