from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadInput, BadRecipe, Busy, DiskFull
from engine.finding import cluster_files, clusters
from engine.finding.cluster_files import Method, read_clusters
from engine.finding.clusters import EXEMPLARS, make_clusters
from engine.protocol import Noticed
from engine.sets import FeatureSet
from engine.store import sole_writer
from tests.blobs import append_to, blobs

N, GROUPS = 200, 5


def quiet(_message: object) -> None:
    pass


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return append_to(tmp_path, blobs(N, GROUPS, spread=0.05))


def is_same_division(a: np.ndarray, b: np.ndarray) -> bool:
    return len({*zip(a.tolist(), b.tolist(), strict=True)}) == len(np.unique(a)) == len(np.unique(b))


def test_kmeans_finds_the_groups_and_how_many_there_are(features: FeatureSet) -> None:
    found = make_clusters(features, "kmeans", quiet)
    assert is_same_division(found.numbers_N, np.arange(N) % GROUPS)
    assert max(found.about.scores, key=lambda score: score[1])[0] == GROUPS
    assert found.about.n_left_out == 0


def test_hdbscan_finds_the_groups_and_leaves_out_strangers(tmp_path: Path) -> None:
    strangers = 3 * np.random.default_rng(1).normal(size=(6, 16)).astype(np.float32)
    features = append_to(tmp_path, np.concatenate([blobs(N, GROUPS, spread=0.05), strangers]))
    found = make_clusters(features, "hdbscan", quiet)
    assert is_same_division(found.numbers_N[:N], np.arange(N) % GROUPS)
    assert found.about.n_left_out == (found.numbers_N < 0).sum() >= 5


def test_pictures_beyond_the_sample_go_where_their_nearest_went(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MOST_FOR_HDBSCAN", 120)
    said: list[object] = []
    found = make_clusters(features, "hdbscan", said.append, smallest=10)
    assert any("found by 120 pictures" in m.text for m in said if isinstance(m, Noticed))
    assert found.about.n_sample == 120
    assert is_same_division(found.numbers_N, np.arange(N) % GROUPS)


def test_clusters_are_numbered_from_the_largest_on(tmp_path: Path) -> None:
    vectors, groups = blobs(300, 3, spread=0.02), np.repeat([0, 1, 2], [20, 70, 45])
    features = append_to(tmp_path, np.concatenate([vectors[0::3][:20], vectors[1::3][:70], vectors[2::3][:45]]))
    found = make_clusters(features, "kmeans", quiet, number=3)
    assert [cluster.size for cluster in found.about.clusters] == [70, 45, 20]
    assert found.numbers_N[groups == 1].tolist() == [0] * 70


@pytest.mark.parametrize("method", cluster_files.METHODS)
def test_exemplars_are_of_their_cluster_and_none_comes_twice(features: FeatureSet, method: Method) -> None:
    found = make_clusters(features, method, quiet)
    for number, cluster in enumerate(found.about.clusters):
        shown = [*cluster.nearest, *cluster.spread]
        assert len(shown) == len(set(shown)) == EXEMPLARS
        assert {int(found.numbers_N[features.row_of(picture)]) for picture in shown} == {number}


def test_the_nearest_exemplars_are_nearer_to_the_centre_than_the_others(features: FeatureSet) -> None:
    found = make_clusters(features, "kmeans", quiet, number=GROUPS)
    unit = features.vectors_ND / np.linalg.norm(features.vectors_ND, axis=1, keepdims=True)
    inside = np.flatnonzero(found.numbers_N == 0)
    off = np.linalg.norm(unit[inside] - unit[inside].mean(axis=0), axis=1)
    expected = features.ids_N[inside[np.argsort(off)[: EXEMPLARS // 2]]]
    assert set(found.about.clusters[0].nearest) == set(expected.tolist())


@pytest.mark.parametrize("method", cluster_files.METHODS)
def test_the_same_seed_gives_the_same_clusters(features: FeatureSet, method: Method) -> None:
    first = make_clusters(features, method, quiet, seed=3)
    again = make_clusters(features, method, quiet, seed=3)
    assert first.about == again.about
    assert np.array_equal(first.numbers_N, again.numbers_N)


def test_pictures_that_were_not_seen_are_in_no_cluster(tmp_path: Path) -> None:
    features = append_to(tmp_path, blobs(60, 3), unseen=[5, 9])
    found = make_clusters(features, "kmeans", quiet, number=3)
    assert np.flatnonzero(found.numbers_N < 0).tolist() == [5, 9]
    assert found.about.n_left_out == 0


def test_clusters_are_read_as_they_were_made_and_refused_when_out_of_date(features: FeatureSet) -> None:
    with pytest.raises(BadInput, match="no clustering by kmeans"):
        read_clusters(features, "kmeans")
    made = make_clusters(features, "kmeans", quiet, number=4)
    kept = read_clusters(features, "kmeans")
    assert kept.about == made.about
    assert np.array_equal(kept.numbers_N, made.numbers_N)
    with pytest.raises(BadInput, match="out of date"):
        read_clusters(append_to(features.folder, blobs(2, 2), first=1000), "kmeans")


@pytest.mark.parametrize("number", [-1, 0, 1, 101])
def test_an_impossible_number_of_clusters_is_refused(features: FeatureSet, number: int) -> None:
    with pytest.raises(BadRecipe, match=str(number)):
        make_clusters(features, "kmeans", quiet, number=number)


@pytest.mark.parametrize("smallest", [-1, 0, 1, 101])
def test_an_impossible_size_of_clusters_is_refused(features: FeatureSet, smallest: int) -> None:
    with pytest.raises(BadRecipe, match=str(smallest)):
        make_clusters(features, "hdbscan", quiet, smallest=smallest)


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too few"):
        make_clusters(append_to(tmp_path, blobs(9, 3)), "kmeans", quiet)


def test_no_group_at_all_is_said(tmp_path: Path) -> None:
    features = append_to(tmp_path, np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32))
    said: list[object] = []
    found = make_clusters(features, "hdbscan", said.append)
    assert found.about.n_left_out > 40
    assert any("in no dense group" in m.text for m in said if isinstance(m, Noticed))


def test_equal_pictures_are_one_cluster_or_none_but_no_error(tmp_path: Path) -> None:
    features = append_to(tmp_path, np.ones((30, 16), np.float32))
    assert make_clusters(features, "kmeans", quiet).numbers_N.min() >= 0
    make_clusters(features, "hdbscan", quiet)


def test_a_full_disk_leaves_the_clusters_before(features: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_clusters(features, "kmeans", quiet, number=5)

    def full(_path: Path, _array: np.ndarray) -> None:
        raise DiskFull("No room left.")

    monkeypatch.setattr("engine.records.write_array", full)
    with pytest.raises(DiskFull):
        make_clusters(features, "kmeans", quiet, number=3)
    kept = read_clusters(features, "kmeans")
    assert kept.about == before.about
    assert np.array_equal(kept.numbers_N, before.numbers_N)


def test_two_processes_do_not_write_one_clustering(features: FeatureSet) -> None:
    with sole_writer(features.folder, "writes the set"), pytest.raises(Busy, match="writes the set"):
        make_clusters(features, "kmeans", quiet, number=3)
