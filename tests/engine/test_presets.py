"""Published recipes are what their sources say, and settle to plans that can run."""

import pytest

from engine.catalogue import VitShape
from engine.errors import BadRecipe
from engine.presets import PRESETS
from engine.recipes import Recipe, settle
from engine.settings import Facts
from engine.training.schedules import peak_rate

IMAGENET = Facts(n_pictures=1_281_167, device="cuda", device_memory_bytes=80 * 2**30, cores=64, processes=8)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_settles_to_what_it_asks_for(name):
    plan = settle(Recipe.preset(name), IMAGENET)
    values = plan.values()
    assert {key: values[key] for key in PRESETS[name].asked} == dict(PRESETS[name].asked)


def test_the_short_recipe_has_the_sources_network_and_rate():
    plan = settle(Recipe.preset("vitl16-short"), IMAGENET)
    assert isinstance(plan.shape, VitShape)
    assert (plan.shape.width, plan.shape.depth, plan.shape.patch, plan.shape.layer_scale) == (1024, 24, 16, 1e-5)
    assert plan.shape.has_mask_token and plan.shape.feed_forward == "mlp"
    assert peak_rate(plan.optimiser, plan.run.batch) == pytest.approx(4e-3 * 2**0.5)
    assert (plan.dino.prototypes, plan.ibot.separate_heads, plan.dino.centring) == (65_536, False, "ema")


def test_the_long_recipe_of_the_giant_has_two_heads_and_swiglu():
    plan = settle(Recipe.preset("vitg14"), IMAGENET)
    assert isinstance(plan.shape, VitShape)
    assert (plan.shape.width, plan.shape.depth, plan.shape.heads) == (1536, 40, 24)
    assert plan.shape.feed_forward == "swiglu" and plan.shape.hidden == 4096
    assert (plan.dino.bottleneck, plan.ibot.ibot_bottleneck, plan.dino.centring) == (384, 256, "sinkhorn")
    assert plan.run.checkpointing


def test_what_is_asked_for_wins_over_the_preset():
    plan = settle(Recipe.of({"epochs": 3}).over(Recipe.preset("vits14-short")), IMAGENET)
    assert plan.run.epochs == 3
    assert plan.dino.momentum == 0.992


def test_a_run_file_may_stand_on_a_preset(tmp_path):
    (tmp_path / "run.toml").write_text('preset = "vits14-short"\nepochs = 7\n[dino]\nkoleo = 0.3\n')
    asked = Recipe.read(tmp_path / "run.toml").asked
    assert (asked["epochs"], asked["koleo"], asked["model"]) == (7, 0.3, "vit-small/14")
    (tmp_path / "run.toml").write_text("preset = 3\n")
    with pytest.raises(BadRecipe, match="no preset '3'"):
        Recipe.read(tmp_path / "run.toml")


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(BadRecipe) as refused:
        Recipe.preset("vitl16-shrt")
    assert "vitl16-short" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("n", "device", "expected"),
    [
        (1_000, "cpu", ("vit-tiny/8", "conv", 1024, False, "ema", 1.0, 0.2, False)),
        (10_000, "cuda", ("vit-small/16", "conv", 1024, False, "sinkhorn", 1.0, 0.2, True)),
        (100_000, "cuda", ("vit-small/14", "patch", 4096, False, "sinkhorn", 0.9, 0.1, True)),
        (1_000_000, "cuda", ("vit-base/14", "patch", 65_536, True, "sinkhorn", 0.9, 0.1, True)),
    ],
)
def test_settled_values_of_dinov2_are_pinned(n, device, expected):
    facts = Facts(n_pictures=n, device=device, device_memory_bytes=80 * 2**30, cores=16)
    plan = settle(Recipe.of({"objective": "dinov2"}), facts)
    values = plan.values()
    names = ("model", "stem", "prototypes", "separate_heads", "centring", "layer_decay", "koleo", "packing")
    assert tuple(values[name] for name in names) == expected
    asked_for_nothing_else = set(plan.reasons) - {"objective"}
    assert {"separate_heads", "centring", "layer_decay", "patch_embed_rate", "clip_by"} <= asked_for_nothing_else
    assert all(plan.reasons.values())
