import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from secateurs.shelf import Shelf, held, tidy, waiting_room
from secateurs.types import SecateursError


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateurs.shelf.LEAST", 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_what_waits_has_no_memory_and_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5).to(dtype)
    turned, before = tensor.T, tensor.clone()
    fetch = Shelf(tmp_path).away([tensor, turned])
    assert tensor.untyped_storage().nbytes() == 0 and len(list(tmp_path.iterdir())) == 1
    fetch()
    assert torch.equal(tensor, before) and torch.equal(turned, before.T)


def test_files_are_used_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for value in range(3):
        tensors = [torch.full((4,), float(value)), torch.full((4,), -float(value))]
        fetches = [shelf.away([tensor]) for tensor in tensors]
        for fetch in fetches:
            fetch()
        assert [tensor.tolist() for tensor in tensors] == [[value] * 4, [-value] * 4]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_tensors_of_the_network_stay(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    shelf = Shelf(tmp_path)
    shelf.spare(network)
    shelf.away([network.weight, network.bias.detach()[:1], network.get_buffer("running_mean")])
    assert not list(tmp_path.iterdir())


def test_what_functions_under_way_hold() -> None:
    def inner(x: torch.Tensor, *args: object, **kwargs: object) -> set[int]:
        y = x + 1
        return {it.data_ptr() for it in held()} - {y.data_ptr()}

    a, b, c = torch.ones(1), torch.ones(1), torch.ones(1)
    assert inner(a, (b,), key=[c]) >= {a.data_ptr(), b.data_ptr(), c.data_ptr()}


def test_a_disk_that_cannot_hold_it_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    tensor = torch.ones(3)
    with pytest.raises(SecateursError, match="cannot hold the activations"):
        Shelf(tmp_path / "missing").away([tensor])
    assert tensor.tolist() == [1, 1, 1]


def test_tidying_up_leaves_what_is_in_use() -> None:
    tensor = torch.ones(1000)
    tidy()
    assert tensor.sum() == 1000


def test_what_a_killed_job_left_is_cleared_away(tmp_path: Path) -> None:
    with waiting_room(tmp_path, Path("out")) as room:
        assert room.parent == tmp_path
    room.mkdir()
    (room / "0.waiting").write_bytes(b"left")
    with waiting_room(tmp_path, Path("other")) as other, waiting_room(tmp_path, Path("out")) as again:
        assert again == room != other and not list(room.iterdir())
    assert not list(tmp_path.iterdir())
    with waiting_room(None, Path("out")) as made:
        assert made.is_dir()
    with pytest.raises(SecateursError, match="cannot be written"), waiting_room(tmp_path / "none", Path("out")):
        pass


ALONE = """
import resource, torch
from pathlib import Path
from secateurs.shelf import given_back, tidy

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def kept():
    before = resident()
    pieces = [(torch.ones(1 << 20), torch.ones(8)) for _ in range(20)]
    small = [it for _, it in pieces]
    del pieces
    return resident() - before

torch.ones(7 << 20)  # freed, it makes the library keep pieces of its size in the heap
with given_back():
    apart = kept()
print(apart, kept())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the option is the GNU C library's")
def test_large_pieces_go_back_though_small_ones_lie_between_them() -> None:
    """Of twenty pieces of 4 MB that are freed, while small ones between them are not; in a heap without holes."""
    run = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    apart, in_heap = map(int, run.stdout.split())
    assert apart < 20 << 20 < in_heap
