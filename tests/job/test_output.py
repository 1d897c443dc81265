"""An output directory that cannot be used is refused at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from secateurs.job.output import check_output, claimed
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


def test_a_second_process_is_told_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from secateurs.job.output import claimed\n"
    code += "with claimed(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    output = tmp_path / "new" / "out"
    with subprocess.Popen([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(SecateursError, match=f"another process is making {output}: wait for it"), claimed(output):
            raise AssertionError("both make it")
        other.kill()
    with claimed(tmp_path / "in" / "vain" / "out"):
        pass
    assert not (tmp_path / "in").exists()
    with claimed(output):
        output.mkdir()
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(SecateursError, match="exists; name another"), claimed(output):
        pass
