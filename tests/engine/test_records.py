"""Records and arrays that are kept: read back as they were, and nothing where they are damaged."""

from dataclasses import dataclass

import numpy as np
import pytest

from engine.errors import BadInput
from engine.records import read_array, read_record, write_array, write_record
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
