import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.seeing import matches
from engine.seeing.matches import Matches, correspondence, likeness_maps, mutual_matches, spread_out


def features(seed, n, width=6):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 100, 1 << 26])
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_best_matches_are_those_of_all_cosines(block, n_first, n_second, seed):
    first_PD, second_QD = features(seed, n_first), features(seed + 100, n_second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matches, "BLOCK_BYTES", block)
        found = correspondence(first_PD, second_QD)
    unit_PD, unit_QD = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (first_PD, second_QD))
    cosines_PQ = unit_PD @ unit_QD.T
    np.testing.assert_array_equal(found.of_first_P, cosines_PQ.argmax(axis=1))
    np.testing.assert_array_equal(found.of_second_Q, cosines_PQ.argmax(axis=0))
    np.testing.assert_allclose(found.cosine_of_first_P, cosines_PQ.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(found.cosine_of_second_Q, cosines_PQ.max(axis=0), atol=1e-5)


def test_shuffled_patches_find_their_places_again():
    first_PD = features(0, 20)
    order = np.random.default_rng(1).permutation(20)
    found = correspondence(first_PD, 3 * first_PD[order])
    assert found.is_mutual_P.all()
    listed = mutual_matches(found, first_cols=5, second_cols=4)
    first_M, second_M = listed.first_M2 @ [5, 1], listed.second_M2 @ [4, 1]
    np.testing.assert_array_equal(order[second_M], first_M)


def test_matches_are_listed_from_the_most_alike():
    listed = mutual_matches(correspondence(features(0, 40), features(1, 40)), 8, 8)
    assert 1 < len(listed.cosine_M) < 40
    assert (np.diff(listed.cosine_M) <= 0).all()


def test_likeness_is_one_at_the_patch_and_equal_in_a_mirrored_picture():
    picture_RCD = features(0, 12).reshape(3, 4, -1)
    first_RC, second_RC = likeness_maps(picture_RCD[1, 2], [picture_RCD, picture_RCD[:, ::-1]])
    assert first_RC[1, 2] == pytest.approx(1)
    assert first_RC.argmax() == 6
    np.testing.assert_array_equal(first_RC, second_RC[:, ::-1])


def test_patch_of_zeros_is_like_nothing():
    picture_RCD = np.stack([np.zeros((2, 2)), np.ones((2, 2))], axis=-1).astype(np.float32)
    picture_RCD[0, 0] = 0
    (likeness_RC,) = likeness_maps(np.array([0, 2]), [picture_RCD])
    assert likeness_RC.tolist() == [[0, 1], [1, 1]]


def grid_of_matches(rows=10, cols=10):
    places_M2 = np.stack(np.divmod(np.arange(rows * cols), cols), axis=1)
    return Matches(places_M2, places_M2, np.linspace(1, 0.5, rows * cols, dtype=np.float32))


@given(st.integers(1, 120))
def test_as_many_as_asked_for_are_taken_and_the_best_first(most):
    chosen = spread_out(grid_of_matches(), most)
    assert len(chosen.cosine_M) == min(most, 100)
    assert chosen.cosine_M[0] == 1
    assert (np.diff(chosen.cosine_M) < 0).all()


def test_chosen_matches_keep_apart():
    chosen = spread_out(grid_of_matches(), 9)
    between_MM = np.linalg.norm(chosen.first_M2[:, None] - chosen.first_M2[None], axis=-1)
    assert between_MM[~np.eye(9, dtype=bool)].min() >= 2


def test_no_matches_are_no_trouble():
    none = Matches(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    assert len(spread_out(none, 5).cosine_M) == 0
