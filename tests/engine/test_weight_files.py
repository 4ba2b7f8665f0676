"""Weights on this computer, as the window lists them: without torch, whatever state the files are in."""

import json
import os
import subprocess
import sys

import pytest

from engine.catalogue import WEIGHTS, ResNetShape, VitShape
from engine.models.downloads import fetch
from engine.models.weights import BUNDLED_FILE, import_file
from engine.weight_files import (
    bytes_to_look,
    forget,
    half_downloads,
    kept_weights,
    n_parameters,
    recorded_sha256,
    shape_in_words,
)
from tests.engine.test_weights import serving


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def test_an_imported_file_says_what_it_is_and_where_it_came_from(cache):
    import_file(BUNDLED_FILE, name="cells", cache=cache)
    (kept,) = kept_weights(cache)
    assert (kept.name, kept.is_whole, kept.origin) == ("cells", True, BUNDLED_FILE.name)
    assert isinstance(kept.shape, VitShape) and kept.shape.width == 192
    assert len(recorded_sha256(kept.path)) == 64


def test_a_file_that_became_shorter_is_not_whole(cache):
    path = import_file(BUNDLED_FILE, name="cells", cache=cache)
    path.write_bytes(path.read_bytes()[:-1])
    assert not kept_weights(cache)[0].is_whole


def test_a_converted_file_is_listed_instead_of_the_downloaded_one(cache):
    (cache / "cells.pth").write_bytes(b"0")
    import_file(BUNDLED_FILE, name="cells", cache=cache)
    (kept,) = kept_weights(cache)
    assert kept.path.suffix == ".safetensors"


def test_hidden_and_other_files_are_not_listed(cache):
    for name in (".hidden.safetensors", "notes.txt", "ledger.json"):
        (cache / name).write_text("{}")
    assert kept_weights(cache) == []


def test_a_folder_that_is_not_there_has_nothing(tmp_path):
    assert kept_weights(tmp_path / "none") == [] == half_downloads(tmp_path / "none")


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{", b"\2" + bytes(7) + b"[]"]
)
def test_a_damaged_file_is_listed_without_a_shape(cache, content):
    (cache / "cells.safetensors").write_bytes(content)
    (kept,) = kept_weights(cache)
    assert kept.shape is None and n_parameters(kept.path) == 0


def test_a_download_that_broke_off_says_how_much_is_here(cache):
    content = bytes(5_000_000)
    with serving(content) as server:

        def stop(done, _total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch("cells", stop, cache=cache, address=server.address)
        (half,) = half_downloads(cache)
        assert half.name == "cells" and half.total_bytes == len(content) and 0 < half.here_bytes < len(content)
        fetch("cells", lambda *_: None, cache=cache, address=server.address)
    assert half_downloads(cache) == []


def test_what_is_forgotten_is_recorded_anew(cache):
    path = import_file(BUNDLED_FILE, name="cells", cache=cache)
    forget(path)
    assert recorded_sha256(path) == "" and kept_weights(cache)[0].is_whole


@pytest.mark.parametrize("content", [b"", b"[]", b'{"cells.safetensors": 3}', b'{"cells.safetensors": {"size": "x"}}'])
def test_a_ledger_that_is_damaged_stops_nothing(cache, content):
    (cache / "cells.safetensors").write_bytes(b"0")
    (cache / "ledger.json").write_bytes(content)
    assert [kept.name for kept in kept_weights(cache)] == ["cells"]


def test_parameters_are_counted_from_the_header():
    assert n_parameters(BUNDLED_FILE) == 2_923_248


def test_larger_networks_and_smaller_patches_take_more_memory():
    def needed(name):
        return bytes_to_look(WEIGHTS[name].shape, WEIGHTS[name].n_parameters)

    assert needed("dino_vits16") < needed("dino_vitb16") < needed("dino_vits8") < needed("dino_vitb8")
    assert 0.45e9 < needed("dino_vits16") < 0.6e9 and 1.8e9 < needed("dino_vits8") < 2.4e9  # 0.53 and 2.1 GB, measured
    assert needed("dino_resnet50") < needed("dino_vitb16")


def test_shapes_are_said_in_words():
    assert shape_in_words(WEIGHTS["dino_vits16"].shape) == "width 384, 12 blocks, 6 heads, patch 16 px"
    assert shape_in_words(ResNetShape()) == "residual network of 16 blocks"


def test_listing_needs_no_torch():
    said = "import sys, engine.weight_files; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_download_tells_how_far_it_is_and_stop_keeps_what_is_here(cache, tmp_path):
    content = bytes(200_000_000)
    with serving(content) as server:
        command = [sys.executable, "-m", "engine", "models", "get", "cells", "--address", server.address, "--pipe"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DINOVIZ_CACHE": str(tmp_path)},
        ) as child:
            lines = iter(child.stdout.readline, b"")
            first = next(json.loads(line) for line in lines if b'"progress"' in line)
            child.stdin.write(b'{"kind": "stop"}\n')
            child.stdin.flush()
            last = [json.loads(line) for line in lines][-1]
        assert first["unit"] == "B" and first["total"] == len(content)
        assert last["kind"] == "finished" and last["stopped"]
        (half,) = half_downloads(cache)
        assert 0 < half.here_bytes < len(content)
