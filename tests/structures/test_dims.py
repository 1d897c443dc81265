from __future__ import annotations

from secateurs.structures._dims import free_dims, free_weights, group_over, matches
from secateurs.types import Dim, Member, Side, Weight


class Fake:
    """A network given by hand."""

    dims = {  # noqa: RUF012
        "a.channels": Dim("a.channels", 4, "channels", ("a.weight[0]",)),
        "b.channels": Dim("b.channels", 4, "channels", ("b.weight[0]",), frozen="an output of the model"),
        "c.channels": Dim("c.channels", 1, "channels", ("c.weight[0]",)),
        "d.groups": Dim("d.groups", 3, "channel_groups", ("d.weight[0]",)),
        "words": Dim("words", 9, "vocabulary", ("table.weight[0]",)),
        "classes": Dim("classes", 2, "output", ("head.weight[0]", "head.bias[0]")),
    }
    weights = tuple(
        Weight(f"{name}.weight", (4, 4), (0,), (1,), looked_up=name == "table") for name in ("a", "table", "head")
    )

    def members(self, *dims: str) -> tuple[Member, ...]:
        return (Member("/".join(dims), (0,)),)

    def meetings(self, *dims: str) -> tuple[tuple[Side, Side], ...]:
        return ()

    def enclosing(self, dim: str) -> str | None:
        return None


def names(found: object) -> list[str]:
    return [x.name for x in found]  # type: ignore[attr-defined]


def test_frozen_kept_and_single_dims_are_left_alone() -> None:
    assert names(free_dims(Fake(), "channels", ())) == ["a.channels"]
    assert names(free_dims(Fake(), "channels", ("a.*",))) == []
    assert names(free_dims(Fake(), "neurons", ())) == []


def test_looked_up_tables_and_output_layers_are_left_alone() -> None:
    assert names(free_weights(Fake(), (), outputs=False)) == ["a.weight"]
    assert names(free_weights(Fake(), (), outputs=True)) == ["a.weight", "head.weight"]
    assert names(free_weights(Fake(), ("he*",), outputs=True)) == ["a.weight"]


def test_patterns_are_globs_and_mind_case() -> None:
    assert matches("layer.3.ffn", ("*.ffn",)) and matches("layer.3.ffn", ("x", "layer.[0-3].*"))
    assert not matches("layer.3.ffn", ("ffn", "Layer.*")) and not matches("layer.3.ffn", ())


def test_the_last_dim_competes_inside_the_others() -> None:
    group = group_over(Fake(), "d.groups", "a.channels")
    assert (group.name, group.n_units, group.block, group.dims) == ("a.channels", 12, 4, ("d.groups", "a.channels"))
    assert group.members == (Member("d.groups/a.channels", (0,)),)
    assert group_over(Fake(), "a.channels").block == 4
