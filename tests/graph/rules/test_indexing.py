from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import free, reason, see, traced

IDS = torch.randint(0, 9, (3, 5))


def test_an_embedding_that_other_numbers_index_freezes_its_rows_and_passes_its_width() -> None:
    layers = {"e": nn.Embedding(9, 6), "b": nn.Linear(6, 2)}
    graph = traced(lambda self, x: self.b(self.e(x.cumsum(1) % 9)), IDS, **layers)
    assert list(free(graph).values()) == [6]
    assert "picked by data" in reason(graph, "e.vocabulary")


def test_rows_picked_by_a_tensor_pass_what_they_carry() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))[torch.tensor([2, 0])])

    graph = traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert free(graph) == {"a.neurons": 6}


def test_columns_picked_by_a_tensor_freeze() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x)[:, torch.tensor([2, 0, 1])])

    graph = traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert "picked by data" in str([dim.frozen for dim in graph.dims.values()])
    assert not free(graph)


def test_two_indices_side_by_side_make_their_dims_where_they_stand() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x).view(3, 2, 2, 6)
        rows = torch.tensor([0, 1, 0])
        return self.b(h[:, rows, rows])

    graph = traced(forward, torch.randn(3, 4, 5), a=nn.Linear(5, 6), b=nn.Linear(6, 2))
    assert 6 in free(graph).values()


def test_index_select_along_another_dim_passes() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x).index_select(0, torch.tensor([1, 1])))

    assert free(traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))) == {"a.neurons": 6}


def test_two_indices_apart_make_their_dim_first() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        rows = torch.tensor([0, 1, 0])
        return self.b(self.a(x).view(x.shape[0], 2, self.n, 2, -1)[:, rows, :, rows].sum((1, 2)))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 120), b=nn.Linear(6, 2), n=5)
    assert it.proven()
    assert it.free("b.weight", 1) == [6]


def test_a_mask_picks_positions_of_what_it_masks() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x)[x[:, 0] > -9])

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_mask_over_a_dim_freezes_it() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h)[0] + h[h > 0].sum()

    assert "picked by data" in see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2)).reason("a.weight")


def test_what_is_counted_position_by_position_is_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b((self.a(x) > 0).nonzero().float().sum(0))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert it.reason("a.weight") == "its positions are counted"


PICKS = torch.tensor([[2, 0, 1]] * 3)

PICKED_COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "gather": lambda h: h.gather(1, PICKS),
    "take_along_dim": lambda h: h.take_along_dim(PICKS, 1),
    "scatter": lambda h: torch.zeros(3, 3).scatter(1, PICKS, h),
    "index_add": lambda h: torch.zeros(3, 3).index_add(1, PICKS[0], h),
    "index_put": lambda h: torch.zeros(3, 3).index_put((torch.arange(3), PICKS[0]), h[:, 0]),
}


@pytest.mark.parametrize("name", PICKED_COLUMNS)
def test_columns_picked_by_data_freeze(name: str) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(PICKED_COLUMNS[name](self.a(x)))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    assert it.reason("a.weight") != ""
    assert not it.graph.unknown


PICKED_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "gather": lambda h: h.gather(0, PICKS[:, :1].expand(-1, h.shape[1])),
    "scatter": lambda h: h.scatter(0, PICKS[:, :1].expand(-1, h.shape[1]), 2 * h),
    "scatter_add": lambda h: torch.zeros_like(h).scatter_add_(0, PICKS[:, :1].expand(-1, h.shape[1]), h),
    "index_add": lambda h: h.index_add(0, PICKS[0], h),
    "index_add_": lambda h: torch.zeros_like(h).index_add_(0, PICKS[0], h),
    "index_put": lambda h: h.index_put((PICKS[0],), 3 * h),
    "mask": lambda h: h.index_put((PICKS[0] > 0,), h[1:] + 1),
    "one value": lambda h: h.index_put((PICKS[0, 1:],), torch.tensor(2.0)),
    "number": lambda h: h.scatter(0, PICKS[:, :1].expand(-1, h.shape[1]), 1.5),
}


@pytest.mark.parametrize("name", PICKED_ROWS)
def test_rows_picked_by_data_pass_their_columns(name: str) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(PICKED_ROWS[name](self.a(x)))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_number_written_over_zeros_is_no_zero() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(x) + self.a(x).scatter(0, torch.zeros(1, 6, dtype=torch.long), 1.5).sum(1, keepdim=True)

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(4, 2))
    assert "not zero" in it.reason("a.weight")


def test_a_dim_of_which_a_part_is_picked_is_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x).gather(0, PICKS[:, :2]))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert "picked by data" in it.reason("a.weight")


def test_what_python_reads_is_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x)) * torch.bincount((self.a(x) > 0).flatten().long(), minlength=3)[:2]

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.reason("a.weight") == "its positions are counted"
    assert not it.graph.unknown


def test_literal_numbers_from_the_end_are_a_slice() -> None:
    """One key-value head behind the query heads, all in one projection."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        qkv = self.qkv(x).view(*x.shape[:2], -1, self.size)
        q, k, v = (part.transpose(1, 2) for part in (qkv[..., :-2, :], qkv[..., [-2], :], qkv[..., [-1], :]))
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))

    it = see(forward, torch.randn(2, 3, 5), qkv=nn.Linear(5, 28), o=nn.Linear(20, 2), size=4)
    assert it.free("o.weight", 1) == [5, 4]
    assert it.role("o.weight", 1)[0] == "heads"
    assert it.proven()


def test_a_vector_of_numbers_that_is_no_stretch_freezes() -> None:
    it = see(lambda m, x: m.b(m.a(x)[:, [0, 2]]), torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert "picked by data" in it.reason("a.weight")


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_embeddings_passes_its_width(mode: str) -> None:
    it = see(lambda m, x: m.b(m.e(x)), IDS, e=nn.EmbeddingBag(9, 6, mode=mode), b=nn.Linear(6, 2))
    assert it.proven() and it.free("e.weight", 1) == [6]
    assert "picked by data" in it.reason("e.weight")


def test_an_image_sampled_at_a_grid_passes_its_channels() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = torch.relu(m.a(x))
        grid = nn.functional.affine_grid(m.t(h.mean((2, 3))).view(-1, 2, 3), [len(h), 1, 5, 5], align_corners=False)
        out: Tensor = m.b(nn.functional.grid_sample(h, grid, align_corners=False))
        return out

    layers = {"a": nn.Conv2d(3, 6, 3), "t": nn.Linear(6, 6), "b": nn.Conv2d(6, 2, 1)}
    it = see(forward, torch.randn(2, 3, 8, 8), **layers)
    assert it.graph.unknown == frozenset()
    assert it.proven() and it.free("a.weight") == [6] and not it.free("t.weight")


def test_random_numbers_freeze_what_they_are_drawn_for() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = m.a(x)
        return m.b(h + torch.empty_like(h).normal_())

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.graph.unknown == frozenset() and not it.free("a.weight")


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_written_where_a_mask_is_set_passes_its_width(whole: bool) -> None:
    """As the features of an image among the tokens of a text."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        text, image = m.text(x), m.image(x[:2])
        mask = (x[:, :1] * 0 + torch.tensor([[1.0], [0.0], [1.0]]) > 0).expand_as(text)
        return m.b(text.masked_scatter(mask if whole else mask.contiguous(), image))

    layers = {"text": nn.Linear(4, 6), "image": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    it = see(forward, torch.randn(3, 4), **layers)
    assert it.graph.unknown == frozenset()
    assert it.free("image.weight") == it.free("text.weight") == ([6] if whole else [])
    assert it.same(("image.weight", 0), ("text.weight", 0)) == whole
    assert it.proven() or not whole


def test_what_python_compares_is_frozen() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = m.a(x)
        return m.b(h) * len(torch.unique(h > 0)) if torch.equal(h, h) else h

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.graph.unknown == frozenset()
    assert it.reason("a.weight") == "its positions are counted"
