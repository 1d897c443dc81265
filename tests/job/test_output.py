"""An output directory that cannot be used is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateurs.job.output import check_output
from secateurs.types import SecateursError


def test_a_directory_to_be_made_leaves_no_trace(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for output in (tmp_path, tmp_path / "gone"):
        with pytest.raises(SecateursError, match=f"{output} exists; name another"):
            check_output(output)


def test_where_nothing_can_be_written_another_place_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecateursError, match="cannot be written: Not a directory; name another"):
        check_output(tmp_path / "file" / "out")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_place_where_even_root_cannot_write() -> None:
    with pytest.raises(SecateursError, match=r"/proc/out cannot be written: .*; name another"):
        check_output(Path("/proc/out"))
