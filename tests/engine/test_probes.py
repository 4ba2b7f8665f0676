import numpy as np
import pytest
import torch

from engine.catalogue import VitShape
from engine.errors import BadInput
from engine.models.vit import VisionTransformer
from engine.seeing.attention import maps_of_layers
from engine.seeing.masks import attention_mask
from engine.seeing.probe_files import probe_files, read_probes
from engine.seeing.probes import (
    choose_probes,
    prepare_probe,
    probe_side,
    probe_steps,
    write_probes,
)

SHAPE = VitShape(width=32, depth=2, heads=2, patch=8, native_side=32, registers=2)


@pytest.fixture
def vit():
    torch.manual_seed(0)
    vit = VisionTransformer(SHAPE)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit


@pytest.fixture
def probes():
    random = np.random.default_rng(0)
    pictures = {"a": (40, 60), "b/ü.jpg": (60, 40), "c": (8, 8)}
    return [
        prepare_probe(
            name,
            random.integers(0, 256, (*size, 3), dtype=np.uint8),
            patch=8,
            side=32,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        )
        for name, size in pictures.items()
    ]


@pytest.mark.parametrize("steps", [0, 1, 5, 39, 1000, 1_000_000])
def test_steps_go_from_the_first_to_the_last(steps):
    series = probe_steps(steps)
    assert (series[0], series[-1]) == (0, steps)
    assert series == sorted(set(series))
    assert len(series) <= 40


def test_few_steps_are_all_looked_at():
    assert probe_steps(10) == list(range(11))


def test_steps_are_further_apart_later():
    gaps = np.diff(probe_steps(100_000))
    assert gaps[-1] > 10_000
    assert (gaps[:5] <= 2).all()


def test_probes_are_spread_and_repeatable():
    chosen = choose_probes(range(1200), seed=3, n=12)
    assert chosen == choose_probes(range(1200), seed=3, n=12)
    assert chosen != choose_probes(range(1200), seed=4, n=12)
    assert [one // 100 for one in chosen] == list(range(12))


def test_few_pictures_are_all_chosen():
    assert choose_probes(["a", "b"], seed=0) == ["a", "b"]
    assert choose_probes([], seed=0) == []


@pytest.mark.parametrize(("global_side", "patch", "side"), [(224, 16, 224), (64, 8, 128), (98, 14, 196), (16, 32, 32)])
def test_side_is_twice_the_crops_in_whole_patches(global_side, patch, side):
    assert probe_side(global_side, patch) == side


def test_looks_are_read_as_they_were_seen(vit, probes, tmp_path):
    path = write_probes(tmp_path / "probes", 7, vit, probes)
    looks = read_probes(path)
    assert probe_files(tmp_path / "probes") == [(7, path)]
    assert [look.name for look in looks] == ["a", "b/ü.jpg", "c"]
    for look, probe in zip(looks, probes, strict=True):
        maps_HRC = maps_of_layers(vit, probe.image_1CYX, probe.grid, [-1])[0].maps_HRC
        assert (look.patch, look.resized) == (probe.grid.patch, probe.grid.resized)
        assert look.attention_HRC.dtype == np.float16
        np.testing.assert_allclose(look.attention_HRC, maps_HRC, rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(look.mean, maps_HRC.mean(axis=0), rtol=2e-3)
        np.testing.assert_array_equal(look.mask_HRC, attention_mask(maps_HRC, 0.6))
        assert look.colours_RC3.shape == (probe.grid.rows, probe.grid.cols, 3)


def test_same_network_gives_the_same_colours_at_every_step(vit, probes, tmp_path):
    first = read_probes(write_probes(tmp_path, 0, vit, probes))
    second = read_probes(write_probes(tmp_path, 10, vit, probes))
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before.colours_RC3, after.colours_RC3)


def test_colours_do_not_flip_when_features_are_mirrored_and_reordered(vit, probes, tmp_path):
    first = read_probes(write_probes(tmp_path, 0, vit, probes))
    with torch.no_grad():  # the output of the last norm turns: every component changes its sign
        vit.norm.weight.neg_()
        vit.norm.bias.neg_()
    second = read_probes(write_probes(tmp_path, 10, vit, probes))
    for before, after in zip(first, second, strict=True):
        np.testing.assert_allclose(before.colours_RC3.astype(int), after.colours_RC3, atol=1)


def test_looking_again_at_a_step_repeats_the_file(vit, probes, tmp_path):
    write_probes(tmp_path, 0, vit, probes)
    path = write_probes(tmp_path, 5, vit, probes)
    first = path.read_bytes()
    write_probes(tmp_path, 9, vit, probes)
    assert write_probes(tmp_path, 5, vit, probes).read_bytes() == first


def test_other_probes_than_before_are_looked_at_afresh(vit, probes, tmp_path):
    write_probes(tmp_path, 0, vit, probes)
    assert len(read_probes(write_probes(tmp_path, 1, vit, probes[:1]))) == 1


def test_damaged_file_of_an_earlier_step_does_not_end_a_run(vit, probes, tmp_path):
    (tmp_path / "step-00000001.npz").write_bytes(b"half")
    (tmp_path / "step-copy.npz").write_bytes(b"")
    assert len(read_probes(write_probes(tmp_path, 2, vit, probes))) == 3


def test_network_stays_in_training(vit, probes, tmp_path):
    vit.train()
    write_probes(tmp_path, 0, vit, probes)
    assert vit.training
    assert all(parameter.grad is None for parameter in vit.parameters())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "step-00000001.npz").write_bytes(content)
    with pytest.raises(BadInput, match="holds no probes"):
        read_probes(tmp_path / "step-00000001.npz")
