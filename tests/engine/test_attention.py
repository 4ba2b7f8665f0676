import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.catalogue import ResNetShape
from engine.errors import BadRecipe, BadWeights
from engine.models.resnet import ResNet
from engine.models.vit import VisionTransformer, attention
from engine.seeing import attention as module
from engine.seeing.attention import attention_maps, every_layer, rollout
from engine.seeing.grid import Grid
from engine.seeing.views import prepare
from tests.makers import TINY, backbone_of, tiny_backbone

SHAPE = replace(TINY, depth=3)
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
SIDE = 45
MEMORY_LIMIT_MB = 2048


def tiny(**changes):
    return tiny_backbone(**{"depth": 3, **changes})


def every_token(backbone, layer=-1):
    grid = Grid.of(PICTURE.shape[:2], patch=8, side=SIDE)
    image_1CYX = prepare(PICTURE, grid, backbone.mean, backbone.std)
    with torch.inference_mode():
        return attention(backbone.model, image_1CYX, layer)[0].numpy()


@pytest.mark.parametrize("registers", [0, 4])
def test_maps_are_the_patch_columns_of_the_cls_row(registers):
    backbone = tiny(registers=registers)
    maps = attention_maps(backbone, PICTURE, side=SIDE)
    rows_HNN = every_token(backbone)
    np.testing.assert_allclose(rows_HNN.sum(axis=-1), 1, atol=1e-5)
    assert maps.maps_HRC.shape == (2, 5, 8)
    assert rows_HNN.shape[-1] == 1 + registers + 5 * 8
    np.testing.assert_allclose(maps.maps_HRC.reshape(2, -1), rows_HNN[:, 0, 1 + registers :], atol=1e-6)
    elsewhere_H = rows_HNN[:, 0, : 1 + registers].sum(axis=-1)
    np.testing.assert_allclose(maps.maps_HRC.sum(axis=(1, 2)) + elsewhere_H, 1, atol=1e-5)


def test_patch_can_be_the_query():
    backbone = tiny(registers=3)
    maps = attention_maps(backbone, PICTURE, side=SIDE, layer=1, query=(2, 5))
    row_HP = every_token(backbone, layer=1)[:, 1 + 3 + 2 * 8 + 5, 1 + 3 :]
    assert (maps.layer, maps.query) == (1, (2, 5))
    np.testing.assert_allclose(maps.maps_HRC.reshape(2, -1), row_HP, atol=1e-6)


def test_every_layer_gives_each_layer():
    backbone = tiny()
    layers = every_layer(backbone, PICTURE, side=SIDE)
    assert [maps.layer for maps in layers] == [0, 1, 2]
    for i, maps in enumerate(layers):
        alone = attention_maps(backbone, PICTURE, side=SIDE, layer=i - 3)
        np.testing.assert_array_equal(maps.maps_HRC, alone.maps_HRC)


@pytest.mark.parametrize(("query", "token"), [("cls", 0), ((1, 2), 1 + 2 + 8 + 2)])
@pytest.mark.parametrize("rows_bytes", [1, 1000, 2**30])
def test_rollout_equals_the_product_of_matrices(query, token, rows_bytes, monkeypatch):
    monkeypatch.setattr(module, "ROWS_BYTES", rows_bytes)
    backbone = tiny(registers=2)
    product_NN = np.eye(1 + 2 + 40)
    for layer in range(3):
        mean_NN = every_token(backbone, layer).mean(axis=0)
        product_NN = (0.5 * mean_NN + 0.5 * np.eye(43)) @ product_NN
    rolled = rollout(backbone, PICTURE, side=SIDE, query=query)
    assert rolled.layer == "rollout"
    assert rolled.maps_HRC.shape == (1, 5, 8)
    np.testing.assert_allclose(rolled.maps_HRC.ravel(), product_NN[token, 3:], atol=1e-6)


def test_square_resizing_gives_a_square_grid():
    assert attention_maps(tiny(), PICTURE, side=48, is_square=True).maps_HRC.shape == (2, 6, 6)


def test_picture_of_one_patch():
    maps = attention_maps(tiny(), np.zeros((1, 1, 3), np.uint8), side=8)
    assert maps.maps_HRC.shape == (2, 1, 1)
    assert (maps.maps_HRC <= 1).all()


def test_network_in_training_is_looked_at_whole_and_returned_to_training():
    backbone = tiny()
    still = attention_maps(backbone, PICTURE, side=SIDE).maps_HRC
    restless = VisionTransformer(SHAPE, drop_path=0.9).train()
    restless.load_state_dict(backbone.model.state_dict())
    seen = attention_maps(backbone_of(restless, SHAPE), PICTURE, side=SIDE).maps_HRC
    np.testing.assert_array_equal(seen, still)
    assert restless.training
    assert all(block.training for block in restless.blocks)


@pytest.mark.parametrize("layer", [3, -4])
def test_missing_layer_is_refused(layer):
    with pytest.raises(BadRecipe, match=f"no layer {layer}"):
        attention_maps(tiny(), PICTURE, side=SIDE, layer=layer)


@pytest.mark.parametrize("query", [(5, 0), (0, 8), (-1, 0)])
def test_missing_patch_is_refused(query):
    with pytest.raises(BadRecipe, match="no patch at row"):
        attention_maps(tiny(), PICTURE, side=SIDE, query=query)


def test_residual_network_is_refused():
    shape = ResNetShape(blocks=(1, 1, 1, 1), width=64)
    with pytest.raises(BadRecipe, match="no attention"):
        attention_maps(backbone_of(ResNet(shape), shape), PICTURE)


def test_attention_that_is_not_a_number_is_refused():
    backbone = tiny()
    with torch.no_grad():
        backbone.model.blocks[0].attn.qkv.weight.fill_(float("nan"))
    with pytest.raises(BadWeights, match="not a number"):
        attention_maps(backbone, PICTURE, side=SIDE)


# Two of twelve blocks: with the depth the peak grows by the weights only, 7 MB a block.
PEAK = """
import resource, sys
import numpy as np
from dataclasses import replace
from engine.catalogue import shape_of
from engine.models.vit import VisionTransformer
from engine.seeing.attention import maps_of_layers
from engine.seeing.grid import Grid
from engine.seeing.views import prepare
from tests.makers import TINY, backbone_of, tiny_backbone
vit = VisionTransformer(replace(shape_of("vit-small/8"), depth=2))
picture = np.zeros((1024, 1024, 3), np.uint8)
grid = Grid.of((1024, 1024), patch=8, side=1024)
image = prepare(picture, grid, (0.5,) * 3, (0.25,) * 3)
assert maps_of_layers(vit, image, grid, [-1])[0].maps_HRC.shape == (6, 128, 128)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
"""


@pytest.mark.slow
def test_sixteen_thousand_tokens_fit_in_two_gigabytes():
    pytest.importorskip("resource")
    result = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < MEMORY_LIMIT_MB
