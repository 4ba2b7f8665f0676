from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.models.heads import ProjectionHead

PARITY = Path(__file__).parent.parent / "data" / "parity"


def test_scores_equal_the_reference():
    t = load_file(PARITY / "dino_v1_head.safetensors")
    head = ProjectionHead(48, 40, hidden=64, bottleneck=32)
    head.load_state_dict({key[3:]: value for key, value in t.items() if key.startswith("sd.")})
    assert (head(t["x"]) - t["y"]).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("layers", "norm", "keys"),
    [
        (1, "none", {"mlp.weight", "mlp.bias"}),
        (2, "none", {f"mlp.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}),
    ],
)
def test_names_are_those_of_the_reference(layers, norm, keys):
    head = ProjectionHead(8, 16, layers=layers, hidden=12, bottleneck=4, norm=norm)
    assert set(head.state_dict()) == keys | {"last_layer.weight_g", "last_layer.weight_v"}


def test_batch_norm_stands_after_each_hidden_layer():
    head = ProjectionHead(8, 16, hidden=12, bottleneck=4, norm="batch")
    kinds = [type(module).__name__ for module in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_prototypes_start_at_length_one_and_may_be_kept_there(is_kept):
    head = ProjectionHead(8, 16, hidden=12, bottleneck=4, norm_last_layer=is_kept)
    assert (head.last_layer.weight_g == 1).all()
    assert head.last_layer.weight_g.requires_grad is not is_kept


def test_scores_are_cosines_whatever_the_scale_of_the_features():
    torch.manual_seed(0)
    head = ProjectionHead(8, 16, hidden=12, bottleneck=4)
    for scale in (1e-30, 1.0, 1e18):
        scores = head(scale * torch.randn(6, 8))
        assert scores.isfinite().all()
        assert scores.abs().max() <= 1 + 1e-5


def test_sixteen_bit_scores_are_close():
    torch.manual_seed(0)
    head = ProjectionHead(8, 16, hidden=12, bottleneck=4)
    features = torch.randn(6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = head(features)
    assert (rough - head(features)).abs().max() < 0.05
