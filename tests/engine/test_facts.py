"""What is known before a run, and the shape of what it starts from, without torch."""

import os
import subprocess
import sys

import numpy as np
import pytest

from engine.catalogue import BUNDLED, WEIGHTS, VitShape
from engine.facts import Machine, facts_of, start_shape, to_train_on
from engine.models.weights import load_backbone, write_backbone
from engine.store import sole_writer, writer_of
from tests.makers import TINY, tiny_backbone

MACHINE = Machine(
    device="cuda", device_name="x", device_memory_bytes=1 << 33, has_bf16=True, cores=8, memory_bytes=1 << 34
)


def test_the_train_split_is_learnt_from_where_there_is_one():
    assert to_train_on(np.array([False, True, True, False])).tolist() == [1, 2]
    assert to_train_on(np.zeros(3, bool)).tolist() == [0, 1, 2]
    assert to_train_on(np.zeros(0, bool)).tolist() == []


def test_facts_are_those_of_the_machine_and_the_pictures(tmp_path):
    facts = facts_of([300, 100, 200], MACHINE, tmp_path / "not/there/yet", processes=2)
    assert (facts.n_pictures, facts.median_side, facts.device, facts.cores, facts.processes) == (3, 200, "cuda", 8, 2)
    assert facts.disk_free_bytes > 0
    assert facts_of([], MACHINE, tmp_path).n_pictures == 0


def test_the_shape_of_a_start_is_read_from_its_description(tmp_path):
    assert start_shape(BUNDLED, tmp_path) == load_backbone(BUNDLED).shape
    assert start_shape("dino_vits8", tmp_path) == WEIGHTS["dino_vits8"].shape
    written = tiny_backbone()
    write_backbone(tmp_path / "kept.safetensors", written.model, TINY, about={})
    assert start_shape(str(tmp_path / "kept.safetensors"), tmp_path) == TINY
    assert start_shape("kept", tmp_path) == TINY


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b"\x05\0\0\0\0\0\0\0[1,2]"])
def test_what_is_not_described_has_no_known_shape(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    assert start_shape(str(path), tmp_path) is None
    assert start_shape(str(tmp_path), tmp_path) is None
    assert start_shape("nowhere", tmp_path) is None
    assert isinstance(TINY, VitShape)


def test_who_writes_a_folder_is_known_while_it_lives(tmp_path):
    assert writer_of(tmp_path) is None
    code = (
        "import sys; from pathlib import Path; from engine.store import sole_writer\n"
        "with sole_writer(Path(sys.argv[1]), 'writes'):\n    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        assert writer_of(tmp_path) == process.pid
        process.kill()
        process.wait()
    assert writer_of(tmp_path) is None
    with sole_writer(tmp_path, "writes"):
        assert writer_of(tmp_path) == os.getpid()
