"""Each collapse is told by its exact value, once, and a healthy run stays unmentioned."""

import math

import pytest

from engine.training.health import FIRST_STEP, Health

K = 1024
HEALTHY = {"teacher_entropy": 2.5, "marginal_entropy": 5.0, "feature_std": 0.5, "effective_rank": 30.0, "kl": 1.0}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"teacher_entropy": math.log(K) * 0.999}, "uniform collapse"),
        ({"marginal_entropy": 0.01, "teacher_entropy": 0.01}, "one-prototype collapse"),
        ({"feature_std": 0.01}, "features alike"),
        ({"effective_rank": 1.2}, "few directions"),
    ],
)
def test_what_goes_wrong_is_named_with_a_remedy(change, name):
    (notice,) = Health(K).look(FIRST_STEP, HEALTHY | change)
    assert notice.level == "warning"
    assert notice.text.startswith(name)
    assert "{" not in notice.text
    assert notice.hint


def test_a_healthy_run_is_not_mentioned():
    assert Health(K).look(5000, HEALTHY) == []


def test_the_first_steps_are_not_judged():
    assert Health(K).look(FIRST_STEP - 1, HEALTHY | {"feature_std": 0.0}) == []


def test_an_ailment_is_said_once_and_again_when_it_comes_back():
    health = Health(K)
    ill = HEALTHY | {"feature_std": 0.0}
    assert [len(health.look(1000, values)) for values in (ill, ill, HEALTHY, ill)] == [1, 0, 0, 1]
