from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secateurs.graph.axes import (
    Axis,
    MisalignedError,
    Node,
    concatenation,
    cut,
    factors,
    find,
    flag,
    freeze,
    leaves,
    regroup,
    size_of,
    split,
    tag,
    unify,
)

SIZES = st.sampled_from([2, 3, 4, 6])
FACTORS = st.lists(SIZES, min_size=1, max_size=3)


def leaf_axis(sizes: Iterable[int]) -> Axis:
    return tuple(Node(n) for n in sizes)


def sizes_of(axis: Iterable[Node]) -> list[int]:
    return [node.size for node in factors(axis)]


def assert_consistent(axis: Iterable[Node]) -> None:
    """Every node is as large as what it was refined to."""
    for node in map(find, axis):
        if node.factors is not None:
            assert node.parts is None
            assert prod(factor.size for factor in node.factors) == node.size
            assert_consistent(node.factors)
        elif node.parts is not None:
            assert sum(size_of(part) for part in node.parts) == node.size
            for part in node.parts:
                assert_consistent(part)


@st.composite
def axes(draw: st.DrawFn, size: int | None = None, depth: int = 2) -> Axis:
    """An axis, of this size if one is given, in which some factors are sums."""
    if size is None:
        size = prod(draw(FACTORS))
    divisors = [d for d in range(2, size + 1) if size % d == 0]
    first = draw(st.sampled_from(divisors)) if divisors else 1
    node: Axis = (Node(first),)
    if depth and first > 2 and draw(st.booleans()):
        at = draw(st.integers(1, first - 1))
        node = concatenation([draw(axes(at, depth - 1)), draw(axes(first - at, depth - 1))])
    return (*node, *(draw(axes(size // first, depth)) if size > first else ()))


# ------------------------------------------------------------------------------------------------------- unify


@given(st.data())
def test_unified_axes_are_one_or_frozen(data: st.DataObject) -> None:
    a = data.draw(axes())
    b = data.draw(axes(size_of(a)))
    size = size_of(a)
    unify(a, b, "they differ")
    assert size_of(a) == size_of(b) == size == prod(sizes_of(a)) == prod(sizes_of(b))
    assert_consistent((*a, *b))
    if list(leaves(a)) == list(leaves(b)):
        assert all(leaf.frozen in (None, "its positions are told apart one by one") for leaf in leaves(a))
    else:
        assert all(leaf.frozen for leaf in leaves((*a, *b)))


@given(FACTORS, st.randoms(use_true_random=False))
def test_it_does_not_matter_which_comes_first(sizes: list[int], random: object) -> None:
    shuffled = list(sizes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for swap in (False, True):
        a, b = leaf_axis(sizes), leaf_axis([prod(shuffled[:1]), prod(shuffled[1:])])
        unify(*((b, a) if swap else (a, b)), "they differ")
        results.append((sizes_of(a), sizes_of(b), [n.frozen for n in leaves(a)], [n.frozen for n in leaves(b)]))
    assert results[0] == results[1]


def test_a_product_refines_a_leaf() -> None:
    width, heads, head_dim = Node(768), Node(12), Node(64)
    carried_elsewhere: Axis = (width,)
    unify((width,), (heads, head_dim), "")
    assert factors(carried_elsewhere) == [find(heads), find(head_dim)] and sizes_of(carried_elsewhere) == [12, 64]


def test_a_coarser_and_a_finer_product_meet_in_the_finest() -> None:
    a, b = leaf_axis([4, 6]), leaf_axis([2, 12])
    unify(a, b, "")
    assert sizes_of(a) == sizes_of(b) == [2, 2, 6]
    assert factors(a) == factors(b)


def test_products_that_cut_across_each_other_freeze_both() -> None:
    a, b = leaf_axis([2, 3]), leaf_axis([3, 2])
    unify(a, b, "they differ")
    assert [leaf.frozen for leaf in leaves((*a, *b))] == ["they differ"] * 4
    assert sizes_of(a) == [2, 3] and sizes_of(b) == [3, 2]


def test_a_leaf_and_a_sum_share_what_they_know() -> None:
    leaf, first, second = Node(5, events=("linear",)), Node(2), Node(3, frozen="an input")
    unify((leaf,), concatenation([(first,), (second,)]), "")
    assert list(leaves((leaf,))) == [first, second]
    assert "linear" in first.events & second.events
    assert (first.frozen, second.frozen) == (None, "an input")


def test_a_frozen_leaf_freezes_the_sum_it_meets() -> None:
    first, second = Node(2), Node(3)
    unify((Node(5, frozen="an input"),), concatenation([(first,), (second,)]), "")
    assert first.frozen == second.frozen == "an input"


def test_sums_cut_elsewhere_meet_in_the_finest() -> None:
    a, b = concatenation([(Node(2),), (Node(4),)]), concatenation([(Node(3),), (Node(3),)])
    unify(a, b, "")
    assert [leaf.size for leaf in leaves(a)] == [leaf.size for leaf in leaves(b)] == [2, 3]  # and a single one
    assert [find(x) for x in leaves(a)] == [find(x) for x in leaves(b)]


def test_unifying_is_transitive() -> None:
    a, b, c = leaf_axis([12]), leaf_axis([3, 4]), leaf_axis([6, 2])
    unify(a, b, "")
    unify(a, c, "")
    assert factors(a) == factors(b) == factors(c) and sizes_of(a) == [3, 2, 2]


def test_an_axis_meets_itself() -> None:
    a = leaf_axis([3, 4])
    unify(a, a, "they differ")
    assert [leaf.frozen for leaf in leaves(a)] == [None, None]


# --------------------------------------------------------------------------------------------- split and cut


@given(st.data())
def test_what_is_split_multiplies_up(data: st.DataObject) -> None:
    axis = data.draw(axes())
    lead = data.draw(st.integers(0, size_of(axis) + 1))
    size = size_of(axis)
    try:
        head, tail = split(axis, lead)
    except MisalignedError:
        pass
    else:
        assert (head.size, tail.size) == (lead, size // lead)
        assert factors((head, tail)) == factors(axis)
    assert size_of(axis) == size == prod(sizes_of(axis))
    assert_consistent(axis)


@given(st.data())
def test_what_is_cut_adds_up(data: st.DataObject) -> None:
    axis = data.draw(axes())
    size = size_of(axis)
    at = data.draw(st.integers(0, size))
    try:
        before, after = cut(axis, at)
    except MisalignedError:
        assert at % size_of(factors(axis)[1:]) != 0 or len(factors(axis)) > 1
    else:
        assert (size_of(before), size_of(after)) == (at, size - at)
        assert size_of(concatenation([before, after])) == size
        assert_consistent((*before, *after))
    assert size_of(axis) == size == prod(sizes_of(axis))
    assert_consistent(axis)


@given(SIZES, SIZES, st.data())
def test_stretches_put_together_again_are_the_same(first: int, second: int, data: st.DataObject) -> None:
    """A fused projection that is split and concatenated again is not frozen and not torn."""
    inner = data.draw(SIZES)
    axis: Axis = (Node(first + second), Node(inner))
    before, after = cut(axis, first * inner)
    unify(axis, concatenation([before, after]), "they differ")
    assert not any(leaf.frozen == "they differ" for leaf in leaves(axis))


def test_a_fused_projection_is_a_sum_times_a_common_factor() -> None:
    """(q + k + v) of 3 heads x 4 each, seen as (9 heads) x 4."""
    fused: Axis = (Node(36),)
    q, rest = cut(fused, 12)
    k, v = cut(rest, 12)
    for part in (q, k, v):
        regroup([part], [3, 4])
    head, tail = split(fused, 9)
    assert (head.size, tail.size) == (9, 4)
    assert [leaf.size for leaf in leaves((head,))] == [3, 3, 3]
    assert {find(factors(part)[1]) for part in (q, k, v)} == {find(tail)}


def test_a_cut_inside_a_trailing_factor_is_refused() -> None:
    with pytest.raises(MisalignedError):
        cut(leaf_axis([3, 4]), 6)


def test_a_child_inherits_what_is_known() -> None:
    node = Node(6, frozen="an input", events=("linear",))
    assert all(leaf.frozen == "an input" and leaf.events == {"linear"} for leaf in split((node,), 2))
    node = Node(6, frozen="an input", events=("linear",))
    cut((node,), 2)
    assert [(leaf.size, leaf.frozen, leaf.events) for leaf in leaves((node,))] == [
        (2, "an input", {"linear"}),
        (4, "an input", {"linear"}),
    ]


# ----------------------------------------------------------------------------------------------------- regroup


@given(st.data())
def test_regrouped_back_gives_the_same_leaves(data: st.DataObject) -> None:
    before = [data.draw(axes()) for _ in range(data.draw(st.integers(1, 3)))]
    total = prod(size_of(axis) for axis in before)
    sizes = []
    rest = total
    while rest > 1:
        sizes.append(data.draw(st.sampled_from([d for d in range(2, rest + 1) if rest % d == 0])))
        rest //= sizes[-1]
    try:
        after = regroup(before, sizes)
    except MisalignedError:
        assume(False)
    assert [size_of(axis) for axis in after] == sizes
    flat = [leaf for axis in before for leaf in factors(axis)]
    assert [leaf for axis in after for leaf in factors(axis)] == flat
    back = regroup(after, [size_of(axis) for axis in before])
    assert [factors(axis) for axis in back] == [factors(axis) for axis in before]


@given(st.data())
def test_a_refused_view_leaves_all_sizes_whole(data: st.DataObject) -> None:
    before = [data.draw(axes()) for _ in range(2)]
    sizes = [size_of(axis) for axis in before]
    with suppress(MisalignedError):
        regroup(before, data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    assert [size_of(axis) for axis in before] == sizes == [prod(sizes_of(axis)) for axis in before]
    assert_consistent(node for axis in before for node in axis)


def test_axes_of_size_one_come_and_go() -> None:
    axis = leaf_axis([6])
    assert [size_of(a) for a in regroup([axis], [1, 6, 1])] == [1, 6, 1]
    assert factors(regroup([axis, (Node(1),)], [6])[0]) == list(axis)


def test_an_empty_tensor_is_regrouped_on_both_sides_of_the_zero() -> None:
    none, six, four = Node(0), Node(6), Node(4)
    a, b, zero, c, d = regroup([(six,), (none,), (four,)], [2, 3, 0, 2, 2])
    assert zero == (none,)
    assert factors((*a, *b)) == factors((six,)) and factors((*c, *d)) == factors((four,))
    with pytest.raises(MisalignedError):
        regroup([(six,), (none,), (four,)], [3, 0, 4])


def test_a_view_of_other_size_is_refused() -> None:
    with pytest.raises(MisalignedError):
        regroup([(Node(2),), (Node(3),)], [2])


# ------------------------------------------------------------------------------------------ freezing and sums


def test_the_first_reason_stays() -> None:
    axis = leaf_axis([2, 3])
    freeze(axis[:1], "first")
    freeze(axis, "second")
    assert [leaf.frozen for leaf in leaves(axis)] == ["first", "second"]


def test_a_flag_goes_wherever_the_dim_goes() -> None:
    """It stays the first one, reaches into sums, and passes to what a leaf is refined to or meets."""
    axis = concatenation([leaf_axis([2, 3]), leaf_axis([12])])
    flag(axis, "mean")
    flag(axis, "softmax")
    split((axis[0].parts[1][0],), 3)  # type: ignore[index]
    assert [(leaf.size, leaf.flagged, leaf.frozen) for leaf in leaves(axis)] == [
        (2, "mean", None),
        (3, "mean", None),
        (3, "mean", None),
        (4, "mean", None),
    ]
    other = leaf_axis([18])
    unify(other, axis, "")
    assert [leaf.flagged for leaf in leaves(other)] == ["mean"] * 4
    plain = leaf_axis([4])
    unify(plain, tuple(leaves(axis))[-1:], "")
    before, after = cut(plain, 2)
    assert [leaf.flagged for leaf in leaves((*before, *after))] == ["mean", "mean"]


def test_freezing_and_tagging_reach_into_sums() -> None:
    axis = concatenation([leaf_axis([2, 3]), leaf_axis([4])])
    freeze(axis, "frozen")
    tag(axis, "conv")
    assert [(leaf.size, leaf.frozen) for leaf in leaves(axis)] == [(2, "frozen"), (3, "frozen"), (4, "frozen")]
    assert all("conv" in leaf.events for leaf in leaves(axis))


def test_parts_of_size_zero_vanish() -> None:
    only = leaf_axis([3])
    assert concatenation([(Node(0),), only, (Node(0),)]) == only


def test_single_positions_side_by_side_are_told_apart() -> None:
    (axis,) = concatenation([(Node(1),), (Node(1),)])
    assert axis.frozen == "its positions are told apart one by one"


def operate(what: str, axis: Axis, other: Axis, number: int) -> list[Axis]:
    """The axes that an operator makes of two of equal size."""
    if what == "split":
        return [(node,) for node in split(axis, number)]
    if what == "cut":
        return list(cut(axis, number))
    if what == "view":
        return regroup([axis, other], [size_of(other) * number, size_of(axis) // number])
    if what == "unify":
        unify(axis, other, "they differ")
    return [concatenation([axis, other])]


@given(st.data())
def test_whatever_is_done_sizes_stay_whole(data: st.DataObject) -> None:
    """Any sequence of operators, refused ones included, over axes that share nodes."""
    pool = [(axis, size_of(axis)) for axis in (data.draw(axes()) for _ in range(3))]
    for _ in range(data.draw(st.integers(1, 6))):
        axis, size = data.draw(st.sampled_from(pool))
        other = data.draw(st.sampled_from([one for one, its in pool if its == size]))
        what = data.draw(st.sampled_from(["split", "cut", "unify", "view", "cat"]))
        with suppress(MisalignedError):
            made = operate(what, axis, other, data.draw(st.integers(1, size)))
            pool += [(one, size_of(one)) for one in made if size_of(one) > 1]
        for one, its in pool:
            assert size_of(one) == its == prod(sizes_of(one))
            assert_consistent(one)
