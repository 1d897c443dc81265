from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from secateurs.tasks.splits import carve, stratified

TEXTS = st.lists(st.text(max_size=5), min_size=2, max_size=60)


@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=200), seed=st.integers(0, 9))
def test_halves_are_disjoint_complete_and_stratified(labels: list[int], seed: int) -> None:
    n = len(labels)
    first, second = stratified(labels, [n // 2, n - n // 2], seed)
    assert sorted(first + second) == list(range(n))
    assert len(first) == n // 2
    ones, twos = (Counter(labels[i] for i in part) for part in (first, second))
    assert all(abs(ones[c] - twos[c]) <= 2 for c in set(labels))


def test_three_parts_of_unequal_size() -> None:
    labels = [i % 10 for i in range(5000)]
    parts = stratified(labels, [3000, 1000, 1000], 0)
    assert [len(p) for p in parts] == [3000, 1000, 1000]
    assert len({i for part in parts for i in part}) == 5000
    for part in parts:
        counts = Counter(labels[i] for i in part).values()
        assert max(counts) - min(counts) <= 1


def test_the_seed_decides() -> None:
    labels = [0, 1] * 50
    assert stratified(labels, [50, 50], 1) == stratified(labels, [50, 50], 1)
    assert stratified(labels, [50, 50], 1) != stratified(labels, [50, 50], 2)


@given(texts=TEXTS, size=st.integers(1, 80), seed=st.integers(0, 9))
def test_a_carve_keeps_equal_texts_together(texts: list[str], size: int, seed: int) -> None:
    rest, carved = carve(texts, size, seed)
    assert sorted(rest + carved) == list(range(len(texts)))
    assert not {texts[i] for i in rest} & {texts[i] for i in carved}
    assert len(carved) >= min(size, len(texts))


def test_a_carve_does_not_depend_on_the_order() -> None:
    texts = [f"text {i}" for i in range(100)]
    carved = {texts[i] for i in carve(texts, 20, 0)[1]}
    turned = texts[::-1]
    assert {turned[i] for i in carve(turned, 20, 0)[1]} == carved
    assert {texts[i] for i in carve(texts, 20, 1)[1]} != carved
    assert len(carved) == 20
