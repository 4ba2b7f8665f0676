"""Files are the old ones or the new ones; what the disk says is understood."""

import errno
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from engine.errors import DiskFull
from engine.store import is_full, replace, sole_writer, sync_file, write_atomically


def test_a_file_and_a_folder_are_renamed(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/a").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    replace(tmp_path / "part", tmp_path / "whole")
    replace(tmp_path / "whole/a", tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)"), False),
        (PermissionError(errno.EACCES, "os error 28"), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_known_by_number_or_words(problem, expected):
    assert is_full(problem) is expected


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "full"), SafetensorError("I/O error (os error 28)")])
def test_a_full_disk_leaves_the_old_file(tmp_path, problem):
    path = tmp_path / "kept"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise problem

    with pytest.raises(DiskFull):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_syncing_a_file_leaves_it_as_it_is(tmp_path):
    (tmp_path / "a").write_bytes(b"bytes")
    sync_file(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"bytes"


def test_a_folder_has_one_writer(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.store import sole_writer\n"
        "with sole_writer(Path(sys.argv[1]), 'trains the run'): pass"
    )
    other = [sys.executable, "-c", code, str(tmp_path)]
    with sole_writer(tmp_path, "trains the run"):
        refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "Busy: Another process trains the run" in refused.stderr
    assert subprocess.run(other, check=False).returncode == 0
