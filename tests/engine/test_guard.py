"""What the guard of fine-tuning decides, from readings alone."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.training.guard import FAR_BELOW_BEST, Reading, Watch, score_of, tolerance_of

LABELLED = Reading(n_pictures=2062, n_asked=408, knn=0.68, effective_rank=129.5, neighbours_of_start=1.0)
UNLABELLED = Reading(n_pictures=160, n_asked=0, knn=0.0, effective_rank=107.2, neighbours_of_start=1.0)

READINGS = st.builds(
    Reading,
    n_pictures=st.integers(2, 5000),
    n_asked=st.integers(0, 1024),
    knn=st.floats(0, 1),
    effective_rank=st.floats(1, 800),
    neighbours_of_start=st.floats(0, 1),
)


@given(READINGS)
def test_the_start_scores_one(start):
    start = replace(start, neighbours_of_start=1.0)
    assert score_of(start, start) == 1.0


@given(READINGS, READINGS)
def test_more_accuracy_never_scores_less(start, now):
    better = replace(now, knn=min(1.0, now.knn + 0.1))
    assert score_of(better, start) >= score_of(now, start)


def test_labels_decide_where_enough_pictures_are_asked_about():
    forgotten = replace(LABELLED, neighbours_of_start=0.0, effective_rank=2.0)
    assert score_of(forgotten, LABELLED) == 1.0
    few = replace(LABELLED, n_asked=24)
    assert score_of(replace(forgotten, n_asked=24), few) == 0.0


def test_without_labels_a_lower_rank_scores_less_and_lost_neighbours_too():
    assert score_of(replace(UNLABELLED, effective_rank=0.9 * 107.2), UNLABELLED) == pytest.approx(0.9)
    assert score_of(replace(UNLABELLED, neighbours_of_start=0.4), UNLABELLED) == 1.0
    assert score_of(replace(UNLABELLED, neighbours_of_start=0.15), UNLABELLED) == pytest.approx(0.5)


def test_the_tolerance_is_one_standard_error_of_the_pictures_asked_about():
    exact = math.sqrt(0.68 * 0.32 / 408)
    assert tolerance_of(LABELLED) == pytest.approx(exact, rel=0.01)
    assert tolerance_of(replace(LABELLED, n_asked=102)) == pytest.approx(2 * exact, rel=0.02)
    assert tolerance_of(replace(UNLABELLED, n_pictures=25)) == 2 * tolerance_of(replace(UNLABELLED, n_pictures=100))


@given(READINGS)
def test_a_tolerance_is_never_nothing(start):
    assert tolerance_of(start) > 0


def test_a_drop_within_one_standard_error_is_no_harm():
    watch = Watch.from_start(LABELLED)
    slack = tolerance_of(LABELLED)
    assert watch.judge(replace(LABELLED, knn=0.68 - 0.9 * slack), 10, most_rollbacks=4) == ("go_on", watch)
    verdict, after = watch.judge(replace(LABELLED, knn=0.68 - 1.1 * slack), 10, most_rollbacks=4)
    assert verdict == "roll_back"
    assert (after.rollbacks, after.rate_factor, after.best_step) == (1, 0.5, 0)


def test_far_below_the_best_is_harm_though_as_good_as_the_start():
    slack = tolerance_of(LABELLED)
    high = replace(LABELLED, knn=0.68 + (FAR_BELOW_BEST + 0.5) * slack)
    verdict, watch = Watch.from_start(LABELLED).judge(high, 40, most_rollbacks=4)
    assert (verdict, watch.best_step, watch.has_gained) == ("best", 40, True)
    assert watch.judge(replace(LABELLED, knn=0.68 + slack), 50, most_rollbacks=4)[0] == "go_on"
    assert watch.judge(LABELLED, 50, most_rollbacks=4)[0] == "roll_back"


def test_as_good_as_the_best_does_not_replace_it():
    watch = Watch.from_start(LABELLED)
    assert watch.judge(LABELLED, 10, most_rollbacks=4) == ("go_on", watch)
    assert not watch.has_gained


def test_features_that_are_not_finite_are_harm():
    broken = replace(LABELLED, effective_rank=math.nan)
    assert math.isnan(score_of(broken, LABELLED))
    assert Watch.from_start(LABELLED).judge(broken, 10, most_rollbacks=4)[0] == "roll_back"


def test_after_so_many_rollbacks_harm_ends_the_run():
    watch = Watch.from_start(LABELLED)
    verdicts = []
    for step in range(4):
        verdict, watch = watch.judge(replace(LABELLED, knn=0.1), step, most_rollbacks=3)
        verdicts.append(verdict)
    assert verdicts == ["roll_back", "roll_back", "roll_back", "end"]
    assert watch.has_ended
    assert watch.rate_factor == 0.125


@given(st.lists(READINGS, max_size=30), READINGS, st.integers(0, 5))
def test_whatever_is_read_the_best_is_no_worse_than_the_start(readings, start, most):
    start = replace(start, neighbours_of_start=1.0)
    watch = Watch.from_start(start)
    scores = [1.0]
    for step, reading in enumerate(readings):
        verdict, watch = watch.judge(reading, step, most_rollbacks=most)
        scores.append(score_of(reading, start))
        if verdict == "end":
            break
    assert watch.best_score == pytest.approx(max(scores))
    assert watch.rollbacks <= most


@given(READINGS, READINGS, st.integers(0, 10**6), st.integers(0, 9), st.booleans())
def test_a_checkpoint_brings_back_all_that_is_known(start, best, step, rollbacks, has_ended):
    watch = Watch(start=start, best=best, best_step=step, rollbacks=rollbacks, has_ended=has_ended)
    assert Watch.of_numbers(watch.as_numbers()) == watch


def test_the_last_word_names_before_and_after():
    better = replace(LABELLED, knn=0.714)
    watch = Watch(start=LABELLED, best=better, best_step=1400, rollbacks=1)
    assert watch.in_words() == "k-NN 0.680 → 0.714 (best at step 1,400, 1 rollback)"
    hardly = replace(watch, best=replace(LABELLED, knn=0.69))
    assert hardly.in_words() == "k-NN 0.680 → 0.690, which may be chance (best at step 1,400, 1 rollback)"
    ended = Watch(start=UNLABELLED, best=UNLABELLED, rollbacks=4, has_ended=True)
    assert ended.in_words().startswith("effective rank 107.2: nothing was better than the weights it started from")
    assert ended.in_words().endswith("(4 rollbacks, then ended)")
