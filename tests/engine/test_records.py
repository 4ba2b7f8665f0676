"""Records and arrays that are kept: read back as they were, and nothing where they are damaged."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadInput, DiskFull
from engine.records import read_array, read_record, read_together, write_array, write_record, write_together
from engine.store import sole_writer
from tests.blobs import append_to, blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    share: float
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    made_from: str
    numbers: tuple[int, ...]
    inner: list[Inner]


def record(made_from: str = "ümlaut") -> Outer:
    return Outer(made_from=made_from, numbers=(3, 1), inner=[Inner(share=0.1), Inner(share=1e-300, name="日本")])


def test_a_record_is_read_as_it_was_written(tmp_path):
    write_record(tmp_path / "it.json", record())
    assert read_record(tmp_path / "it.json", Outer) == record()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"made_from": 1}', b"[]", b"\xff\xfe"])
def test_a_record_that_is_missing_damaged_or_of_another_kind_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "it.json").write_bytes(content)
    assert read_record(tmp_path / "it.json", Outer) is None


def test_an_array_is_read_as_it_was_written_and_half_of_it_is_none(tmp_path):
    path = tmp_path / "it.npy"
    array = np.arange(12, dtype=np.int16).reshape(4, 3)
    assert read_array(path) is None
    write_array(path, array)
    np.testing.assert_array_equal(read_array(path), array, strict=True)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_array(path) is None
    path.write_bytes(b"")
    assert read_array(path) is None


def test_what_was_made_from_a_set_is_missing_current_or_out_of_date(tmp_path):
    features = append_to(tmp_path, blobs(3, 3))
    with pytest.raises(BadInput, match="has no heap yet") as refusal:
        features.made("heap.json", Outer, "heap", "engine heap PROJECT")
    assert refusal.value.hint == "Make it: engine heap PROJECT"
    assert features.current("heap.json", Outer) is None

    write_record(tmp_path / "heap.json", record(features.key))
    assert features.made("heap.json", Outer, "heap", "") == features.current("heap.json", Outer) == record(features.key)

    grown = append_to(tmp_path, blobs(2, 2), first=100)
    with pytest.raises(BadInput, match=r"heap of the set .* is out of date") as refusal:
        grown.made("heap.json", Outer, "heap", "engine heap PROJECT", mend=", or mend it")
    assert refusal.value.hint == "Make it again: engine heap PROJECT, or mend it"
    assert grown.current("heap.json", Outer) is None


class Killed(BaseException):
    """Ends the process as far as a test goes."""


def dying(operation, left: list[int]):
    """Return a file operation that ends the process when none of the calls that are left to it is."""

    def wrapper(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return operation(*args, **kwargs)

    return wrapper


def state(n: int) -> tuple[Outer, list[np.ndarray]]:
    return record(f"state {n}"), [np.full((5, 2), n, np.float32), np.arange(n)]


def write_state(folder: Path, n: int) -> None:
    value, arrays = state(n)
    write_together(folder / "it.json", value, dict(zip(paths_in(folder), arrays, strict=True)))


def paths_in(folder: Path) -> list[Path]:
    return [folder / "it.npy", folder / "it.rows.npy"]


def read_state(folder: Path) -> int:
    """Return which state is there, all of it."""
    found = read_together(folder / "it.json", Outer, paths_in(folder))
    assert found is not None
    n = int(found[0].made_from.removeprefix("state "))
    for array, wanted in zip(found[1], state(n)[1], strict=True):
        np.testing.assert_array_equal(array, wanted, strict=True)
    return n


def test_a_record_with_arrays_is_the_old_or_the_new_one_wherever_it_is_killed(tmp_path, monkeypatch):
    seen = []
    for call in range(60):
        folder = tmp_path / str(call)
        folder.mkdir()
        write_state(folder, 1)
        left = [call]
        try:
            with monkeypatch.context() as patch:
                for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
                    patch.setattr(owner, name, dying(getattr(owner, name), left))
                write_state(folder, 2)
        except Killed:
            seen.append(read_state(folder))
            np.testing.assert_array_equal(np.load(folder / "it.npy"), state(seen[-1])[1][0])  # finished by the reader
            write_state(folder, 3)
            assert read_state(folder) == 3
        else:
            break
        assert not list(folder.glob("*.new.npy")) + list(folder.glob(".*.tmp"))
    assert read_state(folder) == 2
    assert set(seen) == {1, 2}
    assert seen == sorted(seen)


def test_a_full_disk_leaves_the_record_and_its_arrays(tmp_path, monkeypatch):
    write_state(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    for name in ("it.new.npy", "it.rows.new.npy", "it.json"):

        def full(temporary: Path, path: Path, name: str = name) -> None:
            if path.name == name:
                raise OSError(errno.ENOSPC, "No space left on device")
            temporary.replace(path)

        with monkeypatch.context() as patch:
            patch.setattr("engine.store.replace", full)
            with pytest.raises(DiskFull):
                write_state(tmp_path, 2)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reader_takes_new_arrays_that_have_not_got_their_names_and_leaves_them_to_who_writes(tmp_path):
    write_state(tmp_path, 1)
    (tmp_path / "it.npy").replace(tmp_path / "it.new.npy")
    with sole_writer(tmp_path, "writes the set"):
        assert read_state(tmp_path) == 1
        assert (tmp_path / "it.new.npy").exists()
    assert read_state(tmp_path) == 1
    assert not (tmp_path / "it.new.npy").exists()


def test_arrays_of_another_record_do_not_count_and_those_of_one_without_digests_do(tmp_path):
    write_state(tmp_path, 1)
    np.save(tmp_path / "it.npy", np.zeros((5, 2), np.float32))
    assert read_together(tmp_path / "it.json", Outer, paths_in(tmp_path)) is None
    write_record(tmp_path / "it.json", state(1)[0])
    found = read_together(tmp_path / "it.json", Outer, paths_in(tmp_path))
    assert found is not None
    assert not found[1][0].any()


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "it.npz", one=np.zeros(3))
    assert read_array(tmp_path / "it.npz") is None
