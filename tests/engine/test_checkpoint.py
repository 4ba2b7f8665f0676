"""A checkpoint is whole or not there, whatever happens while it is written."""

import errno
import json
from pathlib import Path

import pytest
import torch

from engine.errors import DiskFull
from engine.training import checkpoint


def save(folder: Path, step: int, value: float = 1.0) -> Path:
    return checkpoint.save(
        folder, step, {"objective.w": torch.full((4,), value)}, lambda path: path.write_bytes(b"model"), {"knn": 0.5}
    )


def test_what_was_saved_comes_back(tmp_path):
    save(tmp_path, 7, value=3.0)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.meta["knn"]) == (7, 0.5)
    assert torch.equal(found.tensors()["objective.w"], torch.full((4,), 3.0))


def test_the_newest_three_and_the_best_are_kept(tmp_path):
    for step in range(1, 8):
        save(tmp_path, step)
        if step == 2:
            checkpoint.mark_best(tmp_path, step, 0.9)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{s:08d}" for s in (2, 5, 6, 7)]
    assert checkpoint.best_score(tmp_path) == 0.9


@pytest.mark.parametrize("name", ["train.safetensors", "model.safetensors", "meta.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, name, damage):
    save(tmp_path, 1)
    broken = save(tmp_path, 2) / name
    content = broken.read_bytes()
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_half_written(tmp_path, monkeypatch):
    save(tmp_path, 1)
    for n_writes in range(6):
        left = iter([None] * n_writes)

        def sync(descriptor: int, left=left) -> None:
            if next(left, "full") == "full":
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("engine.training.checkpoint.os.fsync", sync)
            with pytest.raises(DiskFull, match="no room for the checkpoint of step 2"):
                save(tmp_path, 2)
        assert checkpoint.newest(tmp_path).step in (1, 2)
        assert not list(tmp_path.glob(".step-*"))
    assert json.loads((tmp_path / "step-00000001/MANIFEST.json").read_text())


def test_a_real_full_file_system_is_reported_in_words(tmp_path):
    """/dev/full refuses every write, as a full disk does."""

    def write(_: Path) -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    save(tmp_path, 1)
    with pytest.raises(DiskFull):
        checkpoint.save(tmp_path, 2, {"objective.w": torch.ones(4)}, write, {})
    assert checkpoint.newest(tmp_path).step == 1


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    (tmp_path / ".step-00000009.part-123").mkdir(parents=True)
    (tmp_path / ".step-00000009.part-123/train.safetensors").write_bytes(b"half")
    save(tmp_path, 1)
    assert not list(tmp_path.glob(".step-*"))
    assert checkpoint.newest(tmp_path).step == 1


def test_no_folder_has_no_checkpoint(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None
