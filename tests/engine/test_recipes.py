"""What is asked is checked; what is settled is pinned for folders of every size, with reasons."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import ResNetShape, VitShape, shape_of
from engine.errors import BadInput, BadRecipe
from engine.recipes import Plan, Recipe, settle
from engine.rules import RULES
from engine.settings import FIELDS, SECTIONS, Facts, choices_of, range_of, unit_of

GIB = 2**30
PINNED = ("model", "depth", "stem", "start", "global_side", "local_side", "local_crops", "prototypes")
PINNED_TOO = ("teacher_temperature", "momentum", "epochs", "batch", "accumulation", "learning_rate", "precision")


def settled(n: int, device: str = "cpu", memory: int = 16 * GIB, **asked) -> Plan:
    return settle(Recipe.of(asked), Facts(n_pictures=n, device=device, device_memory_bytes=memory, cores=8))


@pytest.mark.parametrize(
    ("n", "first", "second"),
    [
        (50, ("vit-tiny/8", 6, "conv", "contrasting", 48, 24, 4, 256), (0.02, 0.99, 800, 16, 1, 0.008, "bf16")),
        (500, ("vit-tiny/8", 6, "conv", "contrasting", 48, 24, 4, 256), (0.02, 0.99, 600, 32, 1, 0.004, "bf16")),
        (5_000, ("vit-tiny/8", 6, "conv", "contrasting", 48, 24, 4, 1024), (0.02, 0.99, 60, 32, 1, 0.004, "bf16")),
        (100_000, ("vit-tiny/8", 12, "patch", "published", 48, 24, 4, 4096), (0.07, 0.99, 3, 32, 1, 5e-4, "bf16")),
        (1_000_000, ("vit-tiny/8", 12, "patch", "published", 48, 24, 4, 65_536), (0.07, 0.996, 1, 32, 1, 5e-4, "bf16")),
    ],
)
def test_settled_values_on_a_cpu_are_pinned(n, first, second):
    values = settled(n).values()
    assert tuple(values[name] for name in PINNED) == first
    assert tuple(values[name] for name in PINNED_TOO) == pytest.approx(second)


@pytest.mark.parametrize(
    ("n", "memory", "first", "second"),
    [
        (50, 16, ("vit-small/16", 12, "conv", "contrasting", 224, 96, 8, 256), (0.02, 0.99, 800, 16, 1, 0.008)),
        (500, 16, ("vit-small/16", 12, "conv", "contrasting", 224, 96, 8, 256), (0.02, 0.99, 800, 128, 4, 0.001)),
        (5_000, 16, ("vit-small/16", 12, "conv", "contrasting", 224, 96, 8, 1024), (0.02, 0.99, 800, 512, 16, 2.5e-4)),
        (100_000, 80, ("vit-small/16", 12, "patch", "published", 224, 96, 8, 4096), (0.07, 0.996, 300, 512, 2, 5e-4)),
        (
            1_000_000,
            80,
            ("vit-base/16", 12, "patch", "published", 224, 96, 8, 65_536),
            (0.07, 0.996, 100, 512, 4, 5e-4),
        ),
    ],
)
def test_settled_values_on_a_gpu_are_pinned(n, memory, first, second):
    values = settled(n, "cuda", memory * GIB).values()
    assert tuple(values[name] for name in PINNED) == first
    assert tuple(values[name] for name in PINNED_TOO[:-1]) == pytest.approx(second)


def test_every_field_has_a_sentence_and_a_range_or_a_choice():
    for name, (_, info) in FIELDS.items():
        assert info.description, name
        assert info.description.endswith("."), name
        if info.annotation in (int, float):
            assert range_of(info)[0] is not None, name
        else:
            assert info.annotation in (bool, str) or choices_of(info), name
        assert isinstance(unit_of(info), str)


def test_names_are_unique_over_sections():
    assert len(FIELDS) == sum(len(section.model_fields) for section in SECTIONS.values())


def test_every_field_without_a_default_has_a_rule_and_the_other_way_round():
    assert {name for name, (_, info) in FIELDS.items() if info.is_required()} == set(RULES)


def test_what_was_asked_for_stays_and_the_rest_has_reasons():
    plan = settled(3000, epochs=7, prototypes="512", teacher_temperature="auto")
    assert (plan.run.epochs, plan.dino.prototypes) == (7, 512)
    assert set(plan.reasons) == set(RULES) - {"epochs", "prototypes"}
    assert all(plan.reasons.values())


def test_a_plan_survives_its_file():
    for model in ("vit-small/16", "resnet-50"):
        plan = settled(3000, model=model)
        assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_residual_network_settles_with_its_own_values():
    plan = settled(200_000, "cuda", model="resnet-50")
    assert isinstance(plan.shape, ResNetShape)
    assert (plan.crops.scale_split, plan.optimiser.optimiser) == (0.14, "sgd")


@given(
    n=st.integers(2, 3_000_000),
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    memory=st.integers(2, 200),
    side=st.integers(1, 4000),
    processes=st.integers(1, 9),
    model=st.sampled_from(["auto", "vit-tiny/16", "vit-small/8", "vit-base/14", "vit-giant/14", "resnet-50"]),
)
def test_any_folder_on_any_machine_settles_to_a_plan_that_can_run(n, device, memory, side, processes, model):
    facts = Facts(
        n_pictures=n, device=device, device_memory_bytes=memory * GIB, median_side=side, processes=processes, cores=8
    )
    if n < processes:
        return
    plan = settle(Recipe.of({"model": model}), facts)
    assert plan.steps >= 1
    assert plan.run.batch <= n
    assert plan.run.batch % (plan.processes * plan.run.accumulation) == 0


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(BadRecipe, match="Did you mean 'teacher_temperature'"):
        Recipe.of({"teacher_temprature": 0.04})


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("flip", 1.5), ("flip", "often"), ("blur", "strong"), ("batch", 2.5), ("lr", 1)]
)
def test_impossible_values_are_refused_with_their_name(name, value):
    with pytest.raises(BadRecipe, match=name):
        Recipe.of({name: value})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "vit-small/16", "global_side": 100}, "100 is no multiple of the patch side 16"),
        ({"heads": 5}, "5 heads do not divide the width 192"),
        ({"batch": 5000}, "batch 5000 is more than the 3000 pictures"),
        ({"batch": 10, "accumulation": 4}, "does not split"),
        ({"scale_min": 0.5, "scale_split": 0.4}, "scale_min 0.5 is not below"),
        ({"model": "vit-huge/16"}, "no architecture 'vit-huge/16'"),
    ],
)
def test_values_that_cannot_go_together_are_refused(asked, said):
    with pytest.raises(BadRecipe, match=said):
        settled(3000, **asked)


def test_one_picture_is_too_few():
    with pytest.raises(BadRecipe, match="1 readable pictures"):
        settled(1)


def test_a_run_file_may_have_sections_and_flags_win_over_it(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("epochs = 5\nbatch = 16\n[dino]\nprototypes = 256\n[crops]\nblur = 'off'\n")
    recipe = Recipe.of({"epochs": 9}).over(Recipe.read(path))
    assert recipe.asked == {"epochs": 9, "batch": 16, "prototypes": 256, "blur": "off"}


def test_a_run_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("epochs = = 5")
    with pytest.raises(BadRecipe, match="is no TOML file"):
        Recipe.read(tmp_path / "bad.toml")
    with pytest.raises(BadInput, match="Cannot read"):
        Recipe.read(tmp_path / "none.toml")


def test_names_of_architectures():
    small = shape_of("vit-small/14")
    assert isinstance(small, VitShape)
    assert (small.width, small.depth, small.heads, small.patch) == (384, 12, 6, 14)
    giant = shape_of("vit-giant/14")
    assert isinstance(giant, VitShape)
    assert giant.hidden == 4096
    for wrong in ("vit-small", "vit-small/0", "vit-small/x", "", "resnet-18"):
        with pytest.raises(BadRecipe):
            shape_of(wrong)


def test_one_epoch_neither_warms_up_nor_freezes_all_of_it():
    plan = settled(400_000)
    assert (plan.run.epochs, plan.optimiser.warmup_epochs, plan.optimiser.freeze_last_layer) == (1, 0, 0)


def test_weights_to_start_from_decide_the_network_and_a_contradiction_is_refused():
    start = VitShape(width=384, depth=12, heads=6, patch=8)
    facts = Facts(n_pictures=3000, start=start)
    plan = settle(Recipe.of({"init": "x"}), facts)
    assert (plan.shape, plan.model.model, plan.model.depth, plan.model.stem) == (start, "vit-small/8", 12, "patch")
    assert plan.crops.global_side % 8 == 0
    for wrong in ({"model": "vit-base/16"}, {"depth": 6}, {"stem": "conv"}):
        with pytest.raises(BadRecipe, match="is not that of the weights it starts from"):
            settle(Recipe.of({"init": "x"} | wrong), facts)


def test_exact_crops_are_cut_from_the_pictures_themselves():
    assert settled(3000).run.prepare
    assert not settled(3000, renderer="exact").run.prepare
    with pytest.raises(BadRecipe, match="shrunken copies"):
        settled(3000, renderer="exact", prepare=True)


def test_small_folders_peak_at_the_same_rate_whatever_the_batch():
    for batch in (16, 32, 64):
        plan = settled(3000, batch=batch)
        assert math.isclose(plan.optimiser.learning_rate * batch / 256, 5e-4)
