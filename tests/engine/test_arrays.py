"""Arrays on the disk grow by whole rows."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import ArrayFile, read_npy
from engine.errors import BadInput


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=6), st.integers(0, 3), st.sampled_from([np.float16, np.int64, np.uint8]))
def test_what_was_appended_is_read_by_us_and_by_numpy(tmp_path_factory, lengths, width, dtype):
    path = tmp_path_factory.mktemp("array") / "a.npy"
    parts = [np.arange(n * width).reshape(n, width).astype(dtype) + i for i, n in enumerate(lengths)]
    array = ArrayFile.create(path, dtype, (width,))
    for part in parts:
        array.append(part)
    whole = np.concatenate([np.zeros((0, width), dtype), *parts])
    np.testing.assert_array_equal(ArrayFile(path).read(), whole)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), whole)


def test_rows_of_a_killed_append_do_not_count(tmp_path):
    array = ArrayFile.create(tmp_path / "a.npy", np.float32, (2,))
    array.append(np.ones((3, 2), np.float32))
    with (tmp_path / "a.npy").open("ab") as file:
        file.write(b"half a row")
    again = ArrayFile(tmp_path / "a.npy")
    assert len(again) == 3
    again.append(np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[1, 1]] * 3 + [[0, 0]])


def test_rows_are_put_in_the_place_of_others(tmp_path):
    array = ArrayFile.create(tmp_path / "a.npy", np.int32)
    array.append(np.arange(10, dtype=np.int32))
    array.put(np.array([1, 2, 5, 9]), np.array([-1, -2, -5, -9], np.int32))
    array.put(np.array([], np.intp), np.array([], np.int32))
    np.testing.assert_array_equal(array.read(), [0, -1, -2, 3, 4, -5, 6, 7, 8, -9])
    array.cut(2)
    np.testing.assert_array_equal(ArrayFile(array.path).read(), [0, -1])


def test_room_for_a_billion_rows_is_in_the_header(tmp_path):
    array = ArrayFile.create(tmp_path / "a.npy", np.float32, (384,))
    array._count(10**9)
    assert len(ArrayFile(array.path)) == 10**9


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': "])
def test_a_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.npy"):
        ArrayFile(tmp_path / "a.npy")


def test_threads_read_headers_at_the_same_time(tmp_path):
    """CPython 3.11 miscounts where the collector lets another thread in while one parses (python/cpython#106905)."""
    ArrayFile.create(tmp_path / "a.npy", [(name, np.int32) for name in "abcdefghij"]).append(
        np.zeros(3, [(name, np.int32) for name in "abcdefghij"])
    )
    before = gc.get_threshold()

    class Yielding:
        """Lets other threads run whenever it is collected."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            time.sleep(0)

    def read(_: int) -> int:
        for _ in range(20):
            Yielding()
            ArrayFile(tmp_path / "a.npy")
            read_npy(tmp_path / "a.npy")
        return 1

    gc.set_threshold(20, 2, 2)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(read, range(40))) == 40
    finally:
        gc.set_threshold(*before)
