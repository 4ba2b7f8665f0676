"""Linear classifiers on frozen features: against the reference's features, torch's own SGD, and scikit-learn."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import nn

from engine.catalogue import ResNetShape, VitShape
from engine.errors import BadInput, Diverged
from engine.measuring.linear import (
    BATCH,
    MOMENTUM,
    RATES,
    RATES_ARE_FOR,
    STEPS,
    FrozenFeatures,
    Heads,
    Kind,
    held_out,
    linear_accuracy,
    linear_features,
    steps_for,
)
from engine.models import build_backbone

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "linear_features.safetensors"
REFERENCE_SHAPE = VitShape(width=24, depth=5, heads=3, patch=8, native_side=32)


@pytest.fixture(scope="module")
def golden():
    tensors = load_file(GOLDEN)
    vit = build_backbone(REFERENCE_SHAPE).eval()
    vit.load_state_dict({name[3:]: tensor for name, tensor in tensors.items() if name.startswith("sd.")})
    return tensors, linear_features(vit, tensors["input"])


@pytest.mark.parametrize(("blocks", "pool"), [(1, False), (1, True), (4, False), (4, True)])
def test_heads_see_what_dinov2s_heads_see(golden, blocks, pool):
    tensors, features = golden
    expected = tensors[f"dinov2.n{blocks}.avg{int(pool)}"]
    torch.testing.assert_close(features.of_kind(Kind(blocks, pool)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("blocks", "pool"), [(1, False), (4, False), (1, True)])
def test_dinos_heads_see_the_same_numbers_with_mean_patches_between(golden, blocks, pool):
    tensors, features = golden
    seen = features.of_kind(Kind(blocks, pool))
    if pool:
        seen = seen.unflatten(1, (2, -1)).transpose(1, 2).flatten(1)
    torch.testing.assert_close(seen, tensors[f"v1.n{blocks}.avg{int(pool)}"], rtol=1e-5, atol=1e-6)


def test_a_transformer_of_two_blocks_gives_both_and_one_of_one_block_two_kinds():
    images = torch.rand(3, 3, 32, 32)
    two, one = (
        linear_features(build_backbone(replace(REFERENCE_SHAPE, depth=depth)).eval(), images) for depth in (2, 1)
    )
    assert two.kinds() == [Kind(1, False), Kind(1, True), Kind(2, False), Kind(2, True)]
    assert one.kinds() == [Kind(1, False), Kind(1, True)]
    assert two.of_kind(Kind(2, True)).shape == (3, 3 * 24)


def test_a_residual_network_has_one_kind_of_features():
    resnet = build_backbone(ResNetShape(blocks=(1, 1, 1, 1), width=64)).eval()
    features = linear_features(resnet, torch.rand(2, 3, 32, 32))
    assert features.kinds() == [Kind(1, False)]
    assert features.of_kind(Kind(1, False)).shape == (2, 64)


def clusters(n: int, classes: int, *, spread: float = 1.0, blocks: int = 2, seed: int = 0) -> tuple:
    """Features of made-up pictures around one middle a class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(classes, blocks, 8, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    cls = middles[labels] + spread * torch.randn(n, blocks, 8, generator=generator)
    return FrozenFeatures(cls, cls.mean(dim=1)), labels


def test_every_head_takes_the_steps_of_torchs_sgd():
    features, labels = clusters(40, 3)
    seen = features.of_kind(Kind(1, True))
    heads = Heads(seen.shape[1], 3, seed=5, device=torch.device("cpu"))
    references = []
    for head, rate in enumerate(RATES):
        layer = nn.Linear(seen.shape[1], 3).double()
        layer.weight.data = heads._weight_FV.view(-1, len(RATES), 3)[:, head].T.double().clone()
        layer.bias.data.zero_()
        references.append((layer, torch.optim.SGD(layer.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=0)))
    rates = torch.tensor(RATES).repeat_interleave(3)
    for step in range(5):
        part = torch.arange(step * 8, step * 8 + 8)
        heads.learn(seen[part], labels[part], rates)
        for layer, optimiser in references:
            optimiser.zero_grad()
            F.cross_entropy(layer(seen[part].double()), labels[part]).backward()
            optimiser.step()
    expected = torch.stack([layer(seen.double()) for layer, _ in references], dim=1)
    torch.testing.assert_close(heads._logits(seen).double(), expected, rtol=1e-5, atol=1e-6)


def test_rates_grow_with_the_batch_and_fall_to_0_along_a_cosine(monkeypatch):
    asked = []
    monkeypatch.setattr(Heads, "learn", lambda _self, _features, _labels, rates: asked.append(rates[-1].item()))
    Heads.taught(torch.zeros(200, 4), torch.zeros(200, dtype=torch.int64), 2, steps=4, seed=0)
    peak = RATES[-1] * BATCH / RATES_ARE_FOR
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], lr=peak), T_max=4)
    expected = []
    for _ in range(4):
        expected += schedule.get_last_lr()
        schedule.optimizer.step()
        schedule.step()
    assert asked == pytest.approx(expected)


def test_classes_apart_are_told_apart_and_each_has_its_own_share():
    known, labels = clusters(300, 3, spread=0.3)
    asked, truth = clusters(60, 3, spread=0.3, seed=1)
    truth = truth.clone()
    truth[:20] = (truth[:20] + 1) % 3
    truth[20:22] = -1
    result = linear_accuracy(known, labels, asked, truth)
    assert result.accuracy == pytest.approx(38 / 60)
    assert result.validation_accuracy == 1.0
    assert result.heads == 52
    for number in range(3):
        of_class = truth == number
        right = (result.predicted_Q == truth)[of_class].float().mean()
        assert result.by_class_C[number].item() == pytest.approx(right.item())


def test_a_class_that_is_not_asked_about_has_no_share():
    known, labels = clusters(90, 3, spread=0.3)
    asked, truth = clusters(30, 3, spread=0.3, seed=1)
    result = linear_accuracy(known, labels, asked[truth < 2], truth[truth < 2])
    assert result.by_class_C[:2].tolist() == [1.0, 1.0]
    assert result.by_class_C[2].isnan()


def test_the_same_seed_gives_the_same_heads():
    (known, labels), (asked, truth) = clusters(200, 4, spread=3), clusters(100, 4, spread=3, seed=1)
    first, again, other = (linear_accuracy(known, labels, asked, truth, steps=20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.predicted_Q, again.predicted_Q)
    assert (first.rate, first.blocks, first.pool) == (again.rate, again.blocks, again.pool)
    assert not torch.equal(first.predicted_Q, other.predicted_Q)


def test_the_head_is_chosen_by_the_validation_pictures_alone():
    """The mean patch tells the classes of the validation pictures and misleads about those that are asked about."""
    labels = torch.arange(400) % 2
    sign = (2.0 * labels - 1).view(-1, 1, 1).expand(-1, 1, 4)
    noise = torch.randn(400, 1, 4, generator=torch.Generator().manual_seed(0))
    known = FrozenFeatures(sign + noise, sign[:, 0])
    only_pool = FrozenFeatures(noise, sign[:, 0])
    misleading = FrozenFeatures(sign, -3 * sign[:, 0])
    result = linear_accuracy(known, labels, misleading, labels, validation=(only_pool, labels))
    assert result.pool
    assert result.validation_accuracy > 0.95
    assert result.accuracy < 0.5


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.integers(0, 3))
def test_a_tenth_is_held_out_and_never_all(labels, seed):
    is_held = held_out(torch.tensor(labels), seed)
    assert 1 <= is_held.sum() < len(labels)
    assert abs(is_held.sum().item() - len(labels) / 10) <= 1


def test_every_class_of_ten_pictures_has_one_held_out():
    labels = torch.arange(4).repeat_interleave(10)
    assert labels[held_out(labels, 0)].tolist() == [0, 1, 2, 3]


def test_a_large_set_takes_the_published_steps_and_a_small_one_a_hundred_passes():
    assert steps_for(1_281_167) == STEPS == 12_500
    assert steps_for(3000) == 2343
    assert steps_for(10) == 1000


def test_one_picture_is_too_few():
    with pytest.raises(BadInput, match="needs 2 pictures"):
        linear_accuracy(*(clusters(1, 1) * 2))


def test_features_that_are_not_finite_are_said_to_be_so():
    known, labels = clusters(20, 2)
    broken = FrozenFeatures(known.cls_NLD * float("inf"))
    with pytest.raises(Diverged, match="finite"):
        linear_accuracy(broken, labels, broken, labels, steps=3)


def test_heads_whose_rate_is_too_high_are_left_out():
    """The largest rates diverge on features a thousand times larger; the smallest do not."""
    (known, labels), (asked, truth) = clusters(300, 3, spread=0.3), clusters(60, 3, spread=0.3, seed=1)
    large = [FrozenFeatures(features.cls_NLD * 1e20) for features in (known, asked)]
    result = linear_accuracy(large[0], labels, large[1], truth, steps=50)
    assert result.accuracy > 0.9


def test_half_precision_is_as_good():
    (known, labels), (asked, truth) = clusters(300, 3), clusters(90, 3, seed=1)
    whole = linear_accuracy(known, labels, asked, truth)
    halves = [FrozenFeatures(features.cls_NLD.half(), features.pooled_ND.half()) for features in (known, asked)]
    assert linear_accuracy(halves[0], labels, halves[1], truth).accuracy == pytest.approx(whole.accuracy, abs=0.04)


def test_it_is_as_accurate_as_logistic_regression_at_its_best():
    (known, labels), (asked, truth) = clusters(600, 5, spread=1.5), clusters(600, 5, spread=1.5, seed=1)
    ours = linear_accuracy(known, labels, asked, truth).accuracy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it has not converged
        best = max(
            LogisticRegression(C=strength, max_iter=200)
            .fit(known.of_kind(kind), labels)
            .score(asked.of_kind(kind), truth)
            for kind in known.kinds()
            for strength in (0.01, 1.0)
        )
    assert ours == pytest.approx(best, abs=0.03)
