"""What is noted of tensors, which of them share memory, and which are among arguments."""

from __future__ import annotations

import gc

import torch

from secateurs.graph.tensors import ByTensor, memory, tensors_in


def test_tensors_are_told_apart_by_identity_and_not_by_value() -> None:
    a, b, notes = torch.ones(2), torch.ones(2), ByTensor[str]()
    notes[a] = "a"
    assert (notes.get(a), notes.get(b)) == ("a", None)
    notes[a] = "again"
    assert [note for _, note in notes.items()] == ["again"]


def test_a_tensor_at_the_place_of_one_that_is_gone_has_no_note() -> None:
    notes, places = ByTensor[int](), set()
    for i in range(100):
        tensor = torch.ones(1)
        places.add(id(tensor))
        assert notes.get(tensor) is None
        notes[tensor] = i
        del tensor
    assert len(places) < 100  # some did take the place of another
    assert list(notes.items()) == []


def test_notes_of_tensors_make_no_rubbish() -> None:
    gc.collect()
    tensor, notes = torch.ones(2), ByTensor[int]()
    notes[tensor] = 1
    del notes
    assert not [thing for thing in gc.get_referrers(tensor) if isinstance(thing, ByTensor)]
    assert gc.collect() == 0


def test_views_share_memory_and_copies_do_not() -> None:
    x = torch.ones(2, 3)
    assert memory(x) == memory(x[1]) == memory(x.detach()) != memory(x.clone())


def test_tensors_are_found_in_lists_of_arguments() -> None:
    a, b = torch.ones(1), torch.ones(1)
    found = tensors_in((a, 1, None, [b, None], (2.0, (a,))))
    assert [id(tensor) for tensor in found] == [id(a), id(b), id(a)]
