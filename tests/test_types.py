from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.types import (
    Criterion,
    Gram,
    Group,
    Measure,
    Member,
    Plan,
    Reading,
    Rows,
    Schedule,
    SecateursError,
    check_damping,
)


@st.composite
def members(draw: st.DrawFn) -> tuple[Member, tuple[int, ...], int]:
    """A member, the shape of its tensor, and its number of units; with an index or without."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    dims = tuple(draw(st.permutations(range(len(shape))))[: draw(st.integers(1, len(shape)))])
    places = torch.Size([shape[d] for d in dims]).numel()
    if draw(st.booleans()):
        return Member("w", dims), shape, places
    each = draw(st.sampled_from([k for k in range(1, places + 1) if places % k == 0]))
    order = torch.randperm(places, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    index = order.reshape(-1, each)[: draw(st.integers(1, places // each))]
    return Member("w", dims, index), shape, len(index)


def keeps(n: int) -> st.SearchStrategy[torch.Tensor]:
    return st.lists(st.booleans(), min_size=n, max_size=n).map(lambda bits: torch.tensor(bits, dtype=torch.bool))


@given(st.data(), members())
def test_cut_and_mask_agree(data: st.DataObject, case: tuple[Member, tuple[int, ...], int]) -> None:
    member, shape, n_units = case
    keep = data.draw(keeps(n_units))
    tensor = torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape)
    mask = member.mask(keep, shape)
    rows = member.cut(tensor * mask)
    before = member.cut(tensor)
    assert rows.shape[0] == n_units
    assert torch.equal(rows[keep], before[keep])
    assert not rows[~keep].any()
    # Nothing but the rows of dropped units was touched.
    assert int((tensor * mask == 0).sum()) == before[~keep].numel()


@given(members())
def test_cut_takes_what_broadcasts(case: tuple[Member, tuple[int, ...], int]) -> None:
    member, shape, n_units = case
    assert torch.equal(member.cut(torch.ones(shape)), torch.ones(n_units, member.cut(torch.zeros(shape)).shape[1]))


def test_cut_by_hand() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    assert Member("w", (1,)).cut(weight).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert Member("w", (0, 1)).cut(weight).tolist() == [[0], [1], [2], [3], [4], [5]]
    assert Member("w", (1, 0)).cut(weight).tolist() == [[0], [3], [1], [4], [2], [5]]
    assert Member("w", (1,), torch.tensor([[2, 0]])).cut(weight).tolist() == [[2, 5, 0, 3]]
    assert Member("w", (0,), torch.tensor([[0, 1]])).cut(weight).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert Member("w", (0,), torch.tensor([[1, 0]])).cut(weight).tolist() == [[3, 4, 5, 0, 1, 2]]


def plans() -> st.SearchStrategy[Plan]:
    return st.dictionaries(st.sampled_from("abc"), keeps(4)).map(Plan)


def as_lists(plan: Plan) -> dict[str, list[bool]]:
    return {name: keep.tolist() for name, keep in plan.keep.items()}


@given(plans(), plans(), plans())
def test_plans_compose(a: Plan, b: Plan, c: Plan) -> None:
    assert as_lists(a & b) == as_lists(b & a)
    assert as_lists((a & b) & c) == as_lists(a & (b & c))
    assert as_lists(a & a) == as_lists(a)
    assert as_lists(a & Plan({})) == as_lists(a)
    assert set((a & b).keep) == set(a.keep) | set(b.keep)


def test_sparsity_counts_units() -> None:
    plan = Plan({"a": torch.tensor([True, False]), "b": torch.ones(6, dtype=torch.bool)})
    assert plan.sparsity == pytest.approx(1 / 8)
    assert Plan({}).sparsity == 0.0


def test_group_counts_blocks() -> None:
    group = Group("q", 12, (Member("w", (0,)),), block=3, dims=("heads",))
    assert group.n_blocks == 4
    assert group.removable
    assert not Group("w", 12, (), block=4).removable


def test_protocols_tell_the_axes_apart() -> None:
    class Noise:
        needs: frozenset[str] = frozenset()

        def __call__(self, rows: list[Rows]) -> torch.Tensor:
            return torch.rand(rows[0].weight.shape[0])

    assert isinstance(Noise(), Criterion)
    assert not isinstance(Noise(), Measure)
    assert not isinstance(3, Schedule)


def test_a_reading_is_what_it_says() -> None:
    reading = Reading("macs", 12.0, "MAC", "counted")
    assert reading.spread is None
    with pytest.raises(AttributeError):
        reading.value = 0.0  # type: ignore[misc]


def test_what_is_made_of_a_gram_is_made_once() -> None:
    gram, asked = Gram(torch.eye(2) * 4), []

    def root(matrix: torch.Tensor) -> torch.Tensor:
        asked.append(matrix)
        return matrix.sqrt()

    first = gram.once("root", root)
    assert gram.once("root", root) is first
    assert torch.equal(gram.once("double", lambda matrix: 2 * matrix), torch.eye(2) * 8)
    assert len(asked) == 1


def test_the_inverse_of_second_moments_is_damped_as_far_as_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    matrix = x.T @ x
    gram = Gram(matrix)
    expected = torch.linalg.inv(matrix + 0.1 * matrix.diagonal().mean() * torch.eye(4))
    assert torch.allclose(gram.inverse(0.1), expected, rtol=1e-4)
    assert torch.equal(gram.matrix, x.T @ x) and not caplog.records
    singular = torch.tensor([[1.0, 1.0000001], [1.0000001, 1.0]])
    assert Gram(singular).inverse(1e-12).isfinite().all()
    assert "instead of 1e-12" in caplog.text
    assert Gram(torch.zeros(2, 2)).inverse(0.01).isfinite().all()
    with pytest.raises(SecateursError, match="look for NaN"):
        Gram(torch.full((2, 2), torch.nan)).inverse(0.01)


def test_a_damping_that_is_none() -> None:
    check_damping("any", 0.0, zero=True)
    for damping in (-1.0, float("inf"), float("nan")):
        with pytest.raises(SecateursError, match=f"any: damping must be at least 0, got {damping}"):
            check_damping("any", damping, zero=True)
    with pytest.raises(SecateursError, match="any: damping must be above 0, got 0"):
        check_damping("any", 0.0)
