"""Random networks: a plan over the free dims gives the same outputs masked and shrunk, or is refused.

The steps below are the sentences of a grammar; hypothesis strings them together. Each takes ``(batch, length, width)``
to the same with its own width, and keeps in Python what a hand-written network would.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from graph.rules.tracing import trace_checked
from networks import groups_of, trained_
from secateurs import surgery, trials
from secateurs.graph.trace import forward
from secateurs.types import Plan, SecateursError

INPUTS, OUTPUTS = 4, 3


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring on networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Step(nn.Module):
    """One sentence; ``width`` is that of its output."""

    width: int

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


class Linear(Step):
    def __init__(self, n: int, width: int, bias: bool) -> None:
        super().__init__(width)
        self.layer = nn.Linear(n, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class Activation(Step):
    """Some of them are not zero at zero."""

    KINDS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "relu": F.relu,
        "gelu": F.gelu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "cos": torch.cos,
        "softplus": F.softplus,
        "square": torch.square,
        "sign": torch.sign,
        "soft sign": lambda x: x / (1 + x.abs()),
        "where": lambda x: torch.where(x > 0, x, 0.3),
        "clamp": lambda x: x.clamp(0.1, 2),
        "masked": lambda x: x.masked_fill(x < 0, -0.5),
        "difference": lambda x: torch.sigmoid(x) - torch.exp(-x.abs()),
    }

    def __init__(self, n: int, kind: str) -> None:
        super().__init__(n)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return self.KINDS[self.kind](x)


class InPlace(Step):
    """Writes into a tensor, and into a view of it."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.layer = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        before = y.view(-1, y.shape[-1])
        y.relu_()
        y += x
        y[:, 0].sigmoid_()
        return before.view(y.shape) * 0.5 + y


class Norm(Step):
    def __init__(self, n: int, kind: str) -> None:
        super().__init__(n)
        norms = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "rms": nn.RMSNorm}
        self.norm = norms[kind](n) if kind in norms else nn.GroupNorm(_divisor(n), n, affine=kind == "group")
        self.first = kind not in {"layer", "rms"}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.transpose(1, 2)).transpose(1, 2) if self.first else self.norm(x)
        return out


class Scale(Step):
    """Multiplied and shifted by vectors of its own."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.scale, self.shift = nn.Parameter(torch.ones(n)), nn.Parameter(torch.ones(1, 1, n))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Residual(Step):
    def __init__(self, n: int, inner: Step) -> None:
        super().__init__(n)
        self.inner = inner
        self.back = nn.Linear(inner.width, n)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.inner(x))


class Gate(Step):
    def __init__(self, n: int, width: int, fused: bool) -> None:
        super().__init__(width)
        self.fused = fused
        self.both = nn.Linear(n, 2 * width) if fused else nn.ModuleList([nn.Linear(n, width), nn.Linear(n, width)])

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.both(x).chunk(2, -1) if self.fused else (layer(x) for layer in self.both)
        return torch.sigmoid(gate) * value


class Beside(Step):
    """Two branches side by side."""

    def __init__(self, first: Step, second: Step) -> None:
        super().__init__(first.width + second.width)
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], -1)


class Apart(Step):
    """Split in two; each stretch goes its way."""

    def __init__(self, n: int, at: int) -> None:
        super().__init__(n)
        self.sizes = (at, n - at)
        self.mix = nn.Linear(at, at)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split(self.sizes, -1)
        return torch.cat([second, torch.cos(self.mix(first))], -1)


class Cut(Step):
    """A stretch of it, by numbers kept in Python; or every second position."""

    def __init__(self, n: int, at: int, stride: bool) -> None:
        super().__init__((n + 1) // 2 if stride else n - at)
        self.at, self.stride = at, stride

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2] if self.stride else x[..., self.at :]


class Pad(Step):
    def __init__(self, n: int, value: float) -> None:
        super().__init__(n + 3)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 2), value=self.value)


class Weighed(Step):
    """Multiplied by a number taken from all its positions."""

    KINDS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "sum": lambda x: x.sum(-1, keepdim=True),
        "mean": lambda x: x.mean(-1, keepdim=True),
        "max": lambda x: x.amax(-1, keepdim=True),
        "norm": lambda x: x.norm(dim=-1, keepdim=True),
        "counted": lambda x: (x > 0).sum(-1, keepdim=True),
        "mean over time": lambda x: x.mean(1, keepdim=True),
        "sum over time": lambda x: x.cumsum(1),
        "softmax": lambda x: x.softmax(-1),
    }

    def __init__(self, n: int, kind: str) -> None:
        super().__init__(n)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(self.KINDS[self.kind](x))


class Attention(Step):
    """With its projections fused or not, its heads' keys shared or not, its softmax fused or not."""

    def __init__(self, n: int, heads: int, shared: int, fused: bool) -> None:
        super().__init__(n)
        self.heads, self.kv_heads, self.head_dim, self.fused = heads * shared, heads, 3, fused
        self.scale = 0.6
        self.q = nn.Linear(n, self.heads * self.head_dim)
        self.kv = nn.Linear(n, 2 * heads * self.head_dim)
        self.out = nn.Linear(self.heads * self.head_dim, n)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, self.kv_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            mixed = (q @ k.transpose(2, 3) * self.scale).softmax(-1) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return x + out


class Factored(Step):
    """Seen as (groups) x (rest): turned over, summed, weighed or taken apart."""

    def __init__(self, n: int, kind: str) -> None:
        groups = _divisor(n)
        super().__init__(n // groups if kind in {"sum", "first"} else n)
        self.groups, self.kind = groups, kind
        self.weight = nn.Parameter(torch.ones(groups, 1)) if kind == "weighed" else None

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(-1, (self.groups, -1))
        if self.kind == "turned":
            return y.transpose(2, 3).flatten(2)
        if self.kind == "sum":
            return y.sum(2)
        if self.kind == "first":
            return y[:, :, 0]
        return (torch.cos(y) * self.weight).flatten(2)


class Convolution(Step):
    def __init__(self, n: int, width: int, grouped: bool) -> None:
        groups = _divisor(n) if grouped else 1
        super().__init__(width * groups)
        self.conv = nn.Conv1d(n, width * groups, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return out


class Twice(Step):
    """One layer used two times."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.layer = nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.layer(F.silu(self.layer(x))))


class Reordered(Step):
    """Its positions in another order, kept as a buffer; or mirrored; or in an operator that has no rule."""

    def __init__(self, n: int, kind: str) -> None:
        super().__init__(n)
        self.kind = kind
        self.register_buffer("order", torch.arange(n - 1, -1, -1))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "flip":
            return x.flip(-1)
        return x[..., self.order] if self.kind == "index" else torch.fft.rfft(x, n=2 * x.shape[-1] - 1, dim=-1).real


class Mixed(Step):
    """What else is done to two tensors, or to one and itself."""

    KINDS: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
        "stacked": lambda x, y: torch.stack([x, torch.cos(y)]).sum(0),
        "interleaved": lambda x, y: torch.stack([x, y], -1).flatten(2),
        "repeated": lambda x, y: (x + y).repeat(1, 1, 2),
        "outer": lambda x, y: (x[..., None] * y[..., None, :]).flatten(2),
        "rotated": lambda x, y: torch.cat([-y, x], -1) * torch.cat([x, x], -1),
        "gram": lambda x, y: torch.softmax(x @ y.transpose(1, 2), -1) @ torch.cos(y),
        "dirty gram": lambda x, y: torch.cos(x) @ torch.cos(y).transpose(1, 2) @ x,
        "ones": lambda x, y: x * (torch.cos(y) @ torch.ones(y.shape[-1], 1, dtype=y.dtype)),
        "zeros": lambda x, y: torch.zeros_like(x) + torch.where(y > 0, x, y),
        "number": lambda x, y: x * float(y.sum()),
        "pooled": lambda x, y: F.max_pool1d(x, 2) + F.avg_pool1d(torch.cos(y), 2),
        "pooled over time": lambda x, y: F.max_pool1d((x + y).transpose(1, 2), 3, 1, 1).transpose(1, 2),
        "divided": lambda x, y: x / (1 + y.square().sum(-1, keepdim=True)),
        "divided by itself": lambda x, y: x / y,
        "copied": lambda x, y: torch.empty_like(x).copy_(y) + x.clone().fill_(0.5),
        "einsum": lambda x, y: torch.einsum("bti,btj->bij", x, y) @ y.mean(1)[..., None] * x.transpose(1, 2),
    }
    WIDER = frozenset({"interleaved", "repeated", "rotated"})

    def __init__(self, n: int, width: int, kind: str) -> None:
        wide = {"outer": width * width, "pooled": width // 2}
        super().__init__(2 * width if kind in self.WIDER else wide.get(kind, width))
        self.kind = kind
        self.left, self.right = nn.Linear(n, width), nn.Linear(n, width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.KINDS[self.kind](self.left(x), self.right(x))
        return out.transpose(1, 2) if self.kind == "einsum" else out


class Depthwise(Step):
    """Each channel by itself, then forwards and back by a transposed convolution."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__(width)
        self.depthwise = nn.Conv1d(n, n, 3, padding=1, groups=n)
        self.back = nn.ConvTranspose1d(n, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.back(F.silu(self.depthwise(x.transpose(1, 2)))).transpose(1, 2)
        return out


class Shuffled(Step):
    """A grouped convolution, whose channels change places between the groups."""

    def __init__(self, n: int, width: int, groups: int) -> None:
        super().__init__(width * groups)
        self.groups = groups
        self.conv = nn.Conv1d(n, width * groups, 1)
        self.grouped = nn.Conv1d(width * groups, width * groups, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(torch.cos(self.conv(x.transpose(1, 2))))
        out: Tensor = y.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2).transpose(1, 2)
        return out


class Excited(Step):
    """Gated by a squeezed mean over time (squeeze and excitation)."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__(n)
        self.down, self.up = nn.Linear(n, width), nn.Linear(width, n)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean(1, keepdim=True)))))


class Recurrent(Step):
    """Torch's own, one way or both."""

    def __init__(self, n: int, width: int, kind: str, both: bool) -> None:
        super().__init__(2 * width if both else width)
        layer = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
        self.layer = layer(n, width, batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)[0]
        return out


class TorchAttention(Step):
    """Torch's own; queries from one place, keys and values from another."""

    def __init__(self, n: int, heads: int) -> None:
        super().__init__(3 * heads)
        self.queries, self.memory = nn.Linear(n, 3 * heads), nn.Linear(n, 3 * heads)
        self.attention = nn.MultiheadAttention(3 * heads, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        memory = torch.tanh(self.memory(x))
        out: Tensor = self.attention(self.queries(x), memory, memory, need_weights=False)[0]
        return out


class Placed(Step):
    """Attention that knows positions: turned by halves or by pairs, or by a slope of each head's own."""

    def __init__(self, n: int, heads: int, kind: str) -> None:
        super().__init__(n)
        self.heads, self.head_dim, self.kind = heads, 4, kind
        self.qkv, self.out = nn.Linear(n, 3 * heads * self.head_dim), nn.Linear(heads * self.head_dim, n)
        self.slopes = nn.Parameter(torch.ones(heads))
        self.register_buffer("frequencies", torch.tensor([1.0, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        places = torch.arange(length, dtype=x.dtype)
        if self.kind != "slopes":
            q, k = self.turned(q, places), self.turned(k, places)
        scores = q @ k.transpose(2, 3) * 0.4
        if self.kind == "slopes":
            scores = scores - self.slopes[:, None, None] * (places[:, None] - places).abs()
        out: Tensor = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1))
        return x + out

    def turned(self, x: Tensor, places: Tensor) -> Tensor:
        angles = places[:, None] * self.frequencies
        if self.kind == "halves":
            first, second = x.chunk(2, -1)
            both = torch.cat([angles, angles], -1)
            return x * both.cos() + torch.cat([-second, first], -1) * both.sin()
        even, odd = x[..., ::2], x[..., 1::2]
        pairs = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
        return torch.stack(pairs, -1).flatten(-2)


class Experts(Step):
    """A router weighs experts in a list, or picks one for each position."""

    def __init__(self, n: int, width: int, picked: bool) -> None:
        super().__init__(n)
        self.picked = picked
        self.router = nn.Linear(n, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n, width), nn.SiLU(), nn.Linear(width, n)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        if not self.picked:
            return x + sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts))
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            batch, place = torch.where(weights.argmax(-1) == i)
            out[batch, place] = expert(x[batch, place]) * weights[batch, place, i, None]
        return x + out


class Normed(Step):
    """A layer whose weight is computed from a length and a direction."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__(width)
        self.layer = parametrizations.weight_norm(nn.Linear(n, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def _divisor(n: int) -> int:
    return next((d for d in (3, 2, 5) if n % d == 0), 1)


WIDTHS = st.integers(2, 6)


def one_of(kinds: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(kinds))


def apart(draw: st.DrawFn, n: int) -> Step:
    return Apart(n, draw(st.integers(1, n - 1))) if n > 1 else Scale(n)


def cut(draw: st.DrawFn, n: int) -> Step:
    return Cut(n, draw(st.integers(1, n - 1)), draw(st.booleans())) if n > 1 else Scale(n)


Builder = Callable[[st.DrawFn, int], Step]

BUILDERS: dict[str, Builder] = {
    "linear": lambda draw, n: Linear(n, draw(WIDTHS), draw(st.booleans())),
    "activation": lambda draw, n: Activation(n, draw(one_of(Activation.KINDS))),
    "in place": lambda draw, n: InPlace(n),
    "norm": lambda draw, n: Norm(n, draw(one_of(["layer", "batch", "rms", "group", "plain group"]))),
    "scale": lambda draw, n: Scale(n),
    "gate": lambda draw, n: Gate(n, draw(WIDTHS), draw(st.booleans())),
    "apart": apart,
    "cut": cut,
    "pad": lambda draw, n: Pad(n, draw(st.sampled_from([0.0, 0.7]))),
    "weighed": lambda draw, n: Weighed(n, draw(one_of(Weighed.KINDS))),
    "attention": lambda draw, n: Attention(n, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())),
    "factored": lambda draw, n: Factored(n, draw(one_of(["turned", "sum", "first", "weighed"]))),
    "convolution": lambda draw, n: Convolution(n, draw(WIDTHS), draw(st.booleans())),
    "twice": lambda draw, n: Twice(n),
    "reordered": lambda draw, n: Reordered(n, draw(one_of(["flip", "index", "no rule"]))),
    "depthwise": lambda draw, n: Depthwise(n, draw(WIDTHS)),
    "shuffled": lambda draw, n: Shuffled(n, draw(WIDTHS), draw(st.integers(2, 3))),
    "excited": lambda draw, n: Excited(n, draw(WIDTHS)),
    "recurrent": lambda draw, n: Recurrent(n, draw(WIDTHS), draw(one_of(["lstm", "gru", "rnn"])), draw(st.booleans())),
    "torch attention": lambda draw, n: TorchAttention(n, draw(st.integers(1, 3))),
    "placed": lambda draw, n: Placed(n, draw(st.integers(1, 3)), draw(one_of(["halves", "pairs", "slopes"]))),
    "experts": lambda draw, n: Experts(n, draw(WIDTHS), draw(st.booleans())),
    "normed": lambda draw, n: Normed(n, draw(WIDTHS)),
    "mixed": lambda draw, n: Mixed(n, draw(WIDTHS), draw(one_of(Mixed.KINDS))),
}

Nest = Callable[[st.DrawFn, int, int], Step]

NESTS: dict[str, Nest] = {
    "residual": lambda draw, n, depth: Residual(n, draw(chains(n, depth - 1, 2))),
    "beside": lambda draw, n, depth: Beside(draw(chains(n, depth - 1, 2)), draw(chains(n, depth - 1, 2))),
}


class Chain(Step):
    def __init__(self, *steps: Step) -> None:
        super().__init__(steps[-1].width)
        self.steps = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.steps(x)
        return out


@st.composite
def chains(draw: st.DrawFn, n: int, depth: int, most: int) -> Chain:
    """Up to so many steps, one after the other, the first of which takes width n."""
    found: list[Step] = []
    for _ in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from([*BUILDERS, *(NESTS if depth else ())]))
        found.append(BUILDERS[kind](draw, n) if kind in BUILDERS else NESTS[kind](draw, n, depth))
        n = found[-1].width
    return Chain(*found)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    n = draw(WIDTHS)
    body = draw(chains(n, 2, 4))
    return nn.Sequential(nn.Linear(INPUTS, n), body, nn.Linear(body.width, OUTPUTS))


def check(model: nn.Module, data: st.DataObject) -> dict[str, int]:
    """Whether a network is pruned rightly; what there was to prune."""
    torch.manual_seed(0)
    trained_(model).double()
    inputs = (torch.randn(2, 5, INPUTS, dtype=torch.float64),)
    graph = trace_checked(model, inputs)
    groups, reasons = trials.provable(model, groups_of(graph), graph, inputs)
    note(f"{reasons=}")
    keep = {}
    for group in groups:
        count = data.draw(st.integers(1, group.block), label=group.name)
        keep[group.name] = (torch.rand(group.n_blocks, group.block).argsort().argsort() < count).flatten()
    plan = Plan(keep)
    try:
        small = surgery.shrink(model, groups, plan, graph, inputs).model
    except SecateursError as error:
        note(f"refused: {error}")
        return {"refused": 1}
    masked = copy.deepcopy(model)
    surgery.mask_(masked, groups, plan)
    fresh = (torch.randn(3, 7, INPUTS, dtype=torch.float64),)
    (wanted,), (mine,) = forward(masked, fresh), forward(small, fresh)
    assume(bool(wanted.isfinite().all()))
    assert torch.allclose(mine, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    assert sum(p.numel() for p in small.parameters()) == graph.parameters(surgery.sizes_after(groups, plan, graph))
    return {
        "shrunk": int(plan.sparsity != 0),
        "free dims": len(groups),
        "frozen dims": sum(dim.frozen is not None for dim in graph.dims.values()),
        "frozen by the proof": len(reasons),
    }


@settings(max_examples=60)
@given(model=networks(), data=st.data())
def test_random_networks(model: nn.Module, data: st.DataObject) -> None:
    check(model, data)


@pytest.mark.slow
@settings(max_examples=3000)
@given(model=networks(), data=st.data())
def test_many_random_networks(model: nn.Module, data: st.DataObject) -> None:
    check(model, data)
