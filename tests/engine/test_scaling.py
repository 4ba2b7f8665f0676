"""The arithmetic for machines that are not here, against real networks and against what others published."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import shape_of
from engine.elsewhere import elsewhere, learning_of
from engine.errors import BadRecipe
from engine.models import build_backbone
from engine.recipes import Plan
from engine.scaling import (
    A100_40,
    H100,
    KEPT_BYTES,
    Head,
    Learning,
    backbone_parameters,
    bus_bytes_per_s,
    cores_to_crop,
    fit,
    head_parameters,
    kept_bytes_per_picture,
    memory,
    pace,
    parameters,
)
from engine.terminal import run
from tests.makers import write_photos

HEAD = Head()
VITL16_SHORT = Learning(
    shape=replace(shape_of("vit-large/16"), layer_scale=1e-5, has_mask_token=True),
    head=HEAD,
    patch_head=HEAD,
    drop_path=0.3,
)
VITL14 = Learning(
    shape=replace(shape_of("vit-large/14"), layer_scale=1e-5, has_mask_token=True, feed_forward="swiglu"),
    local_side=98,
    head=Head(prototypes=131_072, bottleneck=384),
    patch_head=Head(prototypes=131_072),
    drop_path=0.4,
)
VITG14 = replace(VITL14, shape=replace(shape_of("vit-giant/14"), layer_scale=1e-5, has_mask_token=True))
"""DINOv2: ssl_default_config.yaml, vitl14.yaml, vitg14.yaml."""


@pytest.mark.parametrize("name", ["vit-tiny/8", "vit-small/16", "vit-base/14", "vit-large/16", "vit-giant/14"])
@pytest.mark.parametrize("changes", [{}, {"layer_scale": 1e-5, "has_mask_token": True, "registers": 4}])
def test_parameters_are_those_of_the_real_network(name, changes):
    shape = replace(shape_of(name), **changes)
    with torch.device("meta"):
        network = build_backbone(shape)
    assert backbone_parameters(shape) == sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_head_are_those_of_the_reference():
    # DINO's head on ViT-S: 384 to 2048, 2048, 256, then 65,536 prototypes without a bias
    assert head_parameters(shape_of("vit-small/16"), HEAD) == (
        384 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256 + 256 * 65_536
    )
    assert parameters(VITL16_SHORT) == backbone_parameters(VITL16_SHORT.shape) + head_parameters(
        VITL16_SHORT.shape, HEAD
    )


@pytest.mark.parametrize(
    ("learning", "gpus", "pictures", "published"),
    [
        (VITL16_SHORT, 32, 64, 100 * 1250 * 2048 / 86_400),
        (VITL14, 96, 32, 500 * 1250 * 3072 / (3.3 * 86_400)),
        (VITG14, 256, 12, 500 * 1250 * 3072 / (22_016 / 256 * 3600)),
    ],
    ids=["ViT-L/16 short", "ViT-L/14", "ViT-g/14"],
)
def test_three_published_runs_are_as_fast_as_they_were(learning, gpus, pictures, published):
    said = pace(learning, A100_40, gpus=gpus, sharding="fsdp", pictures=pictures).pictures_per_s
    assert 0.8 < said / published < 1.25


@pytest.mark.parametrize(("local_crops", "published"), [(0, 9.3), (2, 10.5), (6, 12.9), (10, 15.4)])
def test_memory_is_what_dino_published_for_its_crops(local_crops, published):
    """DINO tab. 8: ViT-S/16, batch 1,024 on 16 GPUs, 16 bits; GB a GPU."""
    learning = Learning(shape=shape_of("vit-small/16"), local_crops=local_crops)
    said = memory(learning, gpus=16, sharding="none", pictures=64).total
    assert said / 1e9 == pytest.approx(published, rel=0.08)


def kept_by_autograd(network: torch.nn.Module, pictures_BCYX: torch.Tensor) -> int:
    """Bytes of the storages that a forward pass keeps for the backward pass, parameters apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # the tensor, so that its place is not given away
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        network(pictures_BCYX)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("changes", "checkpointing"),
    [({}, False), ({"feed_forward": "swiglu", "layer_scale": 1e-5}, False), ({}, True)],
)
def test_what_a_pass_keeps_is_what_autograd_keeps(changes, checkpointing):
    shape = replace(shape_of("vit-tiny/16"), depth=6, **changes)
    learning = Learning(shape=shape, local_crops=0, checkpointing=checkpointing)
    network = build_backbone(shape, checkpointing=checkpointing).train()
    kept = kept_by_autograd(network, torch.randn(4, 3, 224, 224))
    if checkpointing:  # what is computed again is not there yet
        kept += 4 * 197 * shape.width * KEPT_BYTES
    assert 2 * kept_bytes_per_picture(learning) == pytest.approx(kept, rel=0.2)


def test_the_batches_of_dinov2_fit_the_gpus_they_ran_on():
    for learning, gpus, pictures in ((VITL14, 96, 32), (VITG14, 256, 12)):
        taken = memory(learning, gpus=gpus, sharding="fsdp", pictures=pictures).total
        assert 0.5 < taken / A100_40.memory_bytes < 1


def test_shards_divide_the_state_and_nothing_else():
    alone = memory(VITG14, gpus=1, sharding="none", pictures=4)
    split = memory(VITG14, gpus=16, sharding="fsdp", pictures=4)
    assert split.state == pytest.approx(alone.state / 16)
    assert (split.kept, split.scores) == (alone.kept, alone.scores)
    assert alone.state == parameters(VITG14) * 16


def test_a_giant_network_fits_small_gpus_only_in_shards():
    small = replace(A100_40, memory_bytes=24 * 2**30)
    assert fit(VITG14, small, gpus=1, batch=16) is None
    found = fit(VITG14, small, gpus=16, batch=1024)
    assert found is not None
    assert found.sharding == "fsdp"
    assert found.memory.total < 0.9 * small.memory_bytes
    assert found.pictures * found.accumulation * 16 == 1024


def test_what_fits_plainly_is_done_plainly():
    found = fit(Learning(shape=shape_of("vit-small/16")), H100, gpus=8, batch=512)
    assert found is not None
    assert (found.sharding, found.checkpointing, found.accumulation) == ("none", False, 1)


@given(
    gpus=st.sampled_from([1, 2, 4, 8, 16, 64]),
    pictures=st.integers(1, 64),
    sharding=st.sampled_from(["none", "fsdp"]),
)
def test_more_work_never_takes_less(gpus, pictures, sharding):
    one = pace(VITL14, H100, gpus=gpus, sharding=sharding, pictures=pictures)
    more = pace(VITL14, H100, gpus=gpus, sharding=sharding, pictures=pictures + 1)
    assert max(one.computing_s, one.communicating_s) <= one.step_s <= one.computing_s + one.communicating_s
    assert more.step_s > one.step_s
    assert more.pictures_per_s > one.pictures_per_s
    smaller = memory(VITL14, gpus=gpus, sharding=sharding, pictures=pictures)
    assert smaller.total < memory(VITL14, gpus=gpus, sharding=sharding, pictures=pictures + 1).total


def test_one_gpu_talks_to_nobody_and_many_machines_share_their_adapters():
    assert pace(VITL14, H100, gpus=1, sharding="fsdp", pictures=8).communicating_s == 0
    assert bus_bytes_per_s(A100_40, 16) == 0.8 * 8 * 25e9
    assert bus_bytes_per_s(A100_40, 8) == 0.8 * 300e9


@pytest.mark.parametrize("name", ["64xh100", "8 x A100-40", "1xh200"])
def test_gpus_that_are_not_here_are_named_by_number_and_kind(name):
    there = elsewhere(name)
    assert f"{there.gpus}" in name
    assert there.machine.device == "cuda"
    assert there.machine.device_memory_bytes == there.gpu.memory_bytes


@pytest.mark.parametrize("name", ["", "h100", "0xh100", "8xrtx", "8x", "-1xh100", "x8h100"])
def test_what_names_no_gpus_is_refused(name):
    with pytest.raises(BadRecipe, match="names no GPUs"):
        elsewhere(name)


def test_a_giant_network_is_planned_without_a_gpu(tmp_path, capsys):
    write_photos(tmp_path / "photos", 64)
    asked = ["--model=vit-giant/14", "--objective=dinov2", "--global-side=224", "--local-side=98", "--batch=64"]
    command = ["train", str(tmp_path / "photos"), "--quiet", "--json", "--dry-run", *asked]
    assert run([*command, "--for", "16xa100-40"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan, memory_ = told["plan"], told["elsewhere"]["memory"]
    assert (plan["processes"], plan["run"]["sharding"], plan["run"]["device"]) == (16, "fsdp", "cuda")
    state = memory_["weights"] + memory_["gradients"] + memory_["optimiser"] + memory_["teacher"]
    assert state == pytest.approx(parameters(learning_of(Plan.model_validate(plan))) * 20 / 16)
    assert told["elsewhere"]["pace"]["pictures_per_s"] > 0
    assert run([*command, "--for", "16xh200"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["run"]["sharding"] == "none"
    assert run(["train", str(tmp_path / "photos"), "--for", "8xh100"]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_cores_to_crop_are_rounded_up():
    assert cores_to_crop(3800, 381) == 10
