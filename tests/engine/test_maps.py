import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalogue import MAP_METHODS
from engine.errors import BadInput, BadRecipe, Busy, DiskFull, Diverged, Stopped
from engine.finding import aligning, map_files, maps, placing
from engine.finding.class_map_files import read_class_map
from engine.finding.class_maps import make_class_map
from engine.finding.faithfulness import faithfulness
from engine.finding.labels import label_codes
from engine.finding.projections import affinities, nearest_among, place_among, principal_components, projected
from engine.protocol import Noticed, Progress
from engine.sets import FeatureSet
from engine.store import sole_writer
from tests.blobs import SHORT, append_to, blobs, neighbours_of

N, GROUPS = 120, 4
PCA = map_files.MapPlan(method="pca", seed=0)


def quiet(_message: object) -> None:
    pass


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return append_to(tmp_path / "sets/0001", blobs(N, GROUPS))


def rotated(positions: np.ndarray, angle: float, *, is_mirrored: bool = False) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return positions @ turn @ np.diag([-1 if is_mirrored else 1, 1]) + [3, -5]


def agreement_with_groups(positions: np.ndarray, groups: np.ndarray) -> float:
    """Share of points whose nearest point is of their group."""
    off = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(off, np.inf)
    return float((groups[off.argmin(axis=1)] == groups).mean())


def test_every_method_of_the_catalogue_can_be_planned() -> None:
    for method in MAP_METHODS:
        plan, _ = maps.settle(method, 1000, 90)
        assert plan.method == method


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    vectors = blobs(300, 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    _, lengths, axes = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    found = principal_components(vectors, np.arange(300), 3)
    assert np.abs((found.axes_KD * axes[:3]).sum(axis=1)) == pytest.approx(1, abs=1e-6)
    assert found.shares_K == pytest.approx(lengths[:3] ** 2 / (lengths**2).sum(), rel=1e-5)
    assert (found.axes_KD[np.arange(3), np.abs(found.axes_KD).argmax(axis=1)] > 0).all()


def test_components_do_not_depend_on_the_length_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(300, 5)
    whole = projected(vectors, np.arange(300), principal_components(vectors, np.arange(300), 2))
    monkeypatch.setattr("engine.finding.vectors.BLOCK_BYTES", 7 * 4 * vectors.shape[1])
    in_blocks = projected(vectors, np.arange(300), principal_components(vectors, np.arange(300), 2))
    assert in_blocks == pytest.approx(whole, abs=1e-6)


def test_pictures_that_were_not_seen_are_not_on_the_map(tmp_path: Path) -> None:
    features = append_to(tmp_path, blobs(40, 4), unseen=[0, 7, 39])
    made = maps.make_map(features, neighbours_of(features, 12), SHORT, quiet)
    assert np.flatnonzero(~made.is_on_N).tolist() == [0, 7, 39]
    assert np.isfinite(made.positions_N2[made.is_on_N]).all()
    assert made.positions_N2.dtype == np.float32


def test_a_map_is_read_as_it_was_made(features: FeatureSet) -> None:
    made = maps.make_map(features, None, PCA, quiet)
    kept = map_files.read_map(features, "pca")
    assert kept.about == made.about
    assert np.array_equal(kept.positions_N2, made.positions_N2)
    assert map_files.current_map(features, PCA)


def test_a_missing_map_and_one_of_other_pictures_are_refused(features: FeatureSet) -> None:
    with pytest.raises(BadInput, match="has no PCA map"):
        map_files.read_map(features, "pca")
    maps.make_map(features, None, PCA, quiet)
    more = append_to(features.folder, blobs(3, 3), first=1000)
    with pytest.raises(BadInput, match="out of date") as refusal:
        map_files.read_map(more, "pca")
    assert "--place" in refusal.value.hint
    assert map_files.current_map(more, PCA) is None


def test_a_map_without_its_last_file_does_not_count(features: FeatureSet) -> None:
    maps.make_map(features, None, PCA, quiet)
    (features.folder / "map-pca.json").unlink()
    with pytest.raises(BadInput, match="has no PCA map"):
        map_files.read_map(features, "pca")


def test_tsne_brings_groups_apart_and_says_how_well(features: FeatureSet) -> None:
    groups = np.arange(N, dtype=np.int32) % GROUPS
    made = maps.make_map(features, neighbours_of(features), SHORT, quiet, labels_N=groups)
    assert agreement_with_groups(made.positions_N2, groups) == 1
    assert made.about.measures is not None
    assert made.about.measures.label_agreement == 1
    assert made.about.measures.trustworthiness > 0.9
    assert 0 < (made.about.divergence or 0) < 2
    assert not list(features.folder.glob("*.part.*")) + list(features.folder.glob("*.state.*"))


def test_tsne_tells_its_progress_and_keeps_positions_for_those_who_watch(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "SAVE_EVERY_S", 0)
    seen = []

    def watch(message: object) -> None:
        if isinstance(message, Progress) and message.what == "laying out by t-SNE":
            seen.append((message.done, np.load(features.folder / "map-tsne.part.npy").shape, message.note))

    maps.make_map(features, neighbours_of(features), SHORT, watch)
    assert seen[-1][0] == SHORT.steps
    assert {shape for _, shape, _ in seen} == {(N, 2)}
    assert seen[-1][2].startswith("divergence")


@pytest.mark.parametrize("stops", [[1], [2], [3], [1, 1, 3]], ids=str)
def test_a_stopped_tsne_keeps_its_map_and_goes_on_to_the_same_end(tmp_path: Path, stops: list[int]) -> None:
    whole = append_to(tmp_path / "whole", blobs(N, GROUPS))
    uncut = maps.make_map(whole, neighbours_of(whole), SHORT, quiet)
    cut = append_to(tmp_path / "cut", blobs(N, GROUPS))
    table = neighbours_of(cut)
    for blocks in stops:
        asked = iter([False] * (blocks - 1) + [True])
        stopped = maps.make_map(cut, table, SHORT, quiet, lambda asked=asked: next(asked))
        assert stopped.about.is_stopped
        assert np.isfinite(map_files.read_map(cut, "tsne").positions_N2).all()
        assert map_files.current_map(cut, SHORT) is None
    said: list[object] = []
    ended = maps.make_map(cut, table, SHORT, said.append)
    assert next(m.text for m in said if isinstance(m, Noticed)).startswith("Going on at step")
    assert np.array_equal(ended.positions_N2, uncut.positions_N2)
    assert ended.about.divergence == uncut.about.divergence


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.blobs import SHORT, neighbours_of
from engine.finding import maps
from engine.sets import FeatureSet

blocks = iter([25, 50, 60, 75, 100])

def kill():
    if next(blocks) == 100:
        os.kill(os.getpid(), signal.SIGKILL)

maps.SAVE_EVERY_S = 0
features = FeatureSet(Path(sys.argv[1]))
maps.make_map(features, neighbours_of(features), SHORT, lambda message: None, kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal on this system")
def test_a_killed_tsne_ends_bit_for_bit_as_one_that_was_not(features: FeatureSet, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(features.folder)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert killed.returncode == -signal.SIGKILL
    said: list[object] = []
    ended = maps.make_map(features, neighbours_of(features), SHORT, said.append)
    assert "Going on at step 75 of 150." in [m.text for m in said if isinstance(m, Noticed)]
    other = append_to(tmp_path / "other", blobs(N, GROUPS))
    assert np.array_equal(ended.positions_N2, maps.make_map(other, neighbours_of(other), SHORT, quiet).positions_N2)


def test_a_state_of_other_features_is_not_gone_on_with(features: FeatureSet) -> None:
    maps.make_map(features, neighbours_of(features), SHORT, quiet, lambda: True)
    more = append_to(features.folder, blobs(20, GROUPS), first=1000)
    said: list[object] = []
    made = maps.make_map(more, neighbours_of(more), SHORT, said.append)
    assert not [m for m in said if isinstance(m, Noticed)]
    assert made.about.step == SHORT.steps


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_damaged_state_is_not_gone_on_with(features: FeatureSet, share: float) -> None:
    maps.make_map(features, neighbours_of(features), SHORT, quiet, lambda: True)
    state = features.folder / "map-tsne.state.npz"
    whole = state.read_bytes()
    state.write_bytes(whole[: int(share * len(whole))])
    assert maps.make_map(features, neighbours_of(features), SHORT, quiet).about.step == SHORT.steps


def test_threads_and_repetition_do_not_change_a_tsne(features: FeatureSet) -> None:
    table, plan = neighbours_of(features), replace(SHORT, steps=50, early=25)
    first = maps.make_map(features, table, plan, quiet, threads=1)
    again = maps.make_map(features, table, plan, quiet, threads=2, again=True)
    assert np.array_equal(first.positions_N2, again.positions_N2)
    other_seed = maps.make_map(features, table, replace(plan, seed=1), quiet)
    assert not np.array_equal(first.positions_N2, other_seed.positions_N2)


def test_umap_brings_groups_apart_and_repeats_exactly(features: FeatureSet) -> None:
    table, groups = neighbours_of(features), np.arange(N) % GROUPS
    plan, _ = maps.settle("umap", N, 30, steps=60)
    told: list[object] = []
    first = maps.make_map(features, table, plan, told.append).positions_N2
    assert [m.done for m in told if isinstance(m, Progress)][-1] == 60
    assert agreement_with_groups(first, groups) == 1
    assert np.array_equal(first, maps.make_map(features, table, plan, quiet, again=True).positions_N2)
    with pytest.raises(Stopped):
        maps.make_map(features, table, plan, quiet, lambda: True, again=True)
    assert np.array_equal(map_files.read_map(features, "umap").positions_N2, first)


def test_rows_with_missing_neighbours_are_laid_out_too() -> None:
    near = np.array([[1, 2], [0, -1], [-1, -1], [2, 0]], np.int32)
    far = np.array([[0.1, 0.2], [0.1, 0], [0, 0], [0.3, 0.4]], np.float32)
    found = affinities(near, far, 1.0, 1).toarray()
    assert found.sum() == pytest.approx(1)
    assert np.array_equal(found, found.T)
    assert found[1, 2] == 0


@given(st.integers(4, 10**6), st.integers(1, 200), st.none() | st.floats(1, 1e6))
def test_the_perplexity_never_asks_for_more_neighbours_than_there_are(n: int, k: int, asked: float | None) -> None:
    k = min(k, n - 1)
    plan, notices = maps.settle("tsne", n, k, perplexity=asked)
    assert plan.perplexity >= 1
    assert plan.perplexity == 1 or plan.perplexity * 3 <= k + 1e-6
    is_lowered = plan.perplexity < (30 if asked is None else asked)
    assert is_lowered == any("perplexity" in notice.text for notice in notices)


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf")])
def test_an_impossible_perplexity_is_refused(value: float) -> None:
    with pytest.raises(BadRecipe, match="perplexity"):
        maps.settle("tsne", 1000, 90, perplexity=value)


@pytest.mark.parametrize(("method", "n"), [("tsne", 3), ("umap", 3), ("pca", 1)])
def test_too_few_pictures_are_refused(method: map_files.Method, n: int) -> None:
    with pytest.raises(BadInput, match="too few"):
        maps.settle(method, n, n - 1)


@pytest.mark.parametrize("method", ["tsne", "umap", "pca"])
def test_the_fewest_pictures_can_be_laid_out(tmp_path: Path, method: map_files.Method) -> None:
    features = append_to(tmp_path, blobs(4, 2))
    plan, _ = maps.settle(method, 4, 3, steps=20)
    made = maps.make_map(features, neighbours_of(features, 3), plan, quiet)
    assert np.isfinite(made.positions_N2).all()
    assert made.about.measures is None


def test_equal_pictures_can_be_laid_out(tmp_path: Path) -> None:
    features = append_to(tmp_path, np.ones((50, 16), np.float32))
    for method in ("tsne", "umap", "pca"):
        plan, _ = maps.settle(method, 50, 20, steps=30)
        made = maps.make_map(features, neighbours_of(features, 20), plan, quiet)
        assert np.isfinite(made.positions_N2).all()


@given(st.floats(-3.2, 3.2), st.booleans(), st.integers(0, 2**20))
def test_a_turned_map_is_laid_on_the_one_it_came_from(angle: float, is_mirrored: bool, seed: int) -> None:
    before = np.random.default_rng(seed).normal(size=(30, 2)) * 10
    laid = aligning.lay_onto(rotated(before, angle, is_mirrored=is_mirrored), np.arange(30), before)
    assert laid == pytest.approx(before, abs=1e-4)


def test_a_map_is_laid_on_another_by_the_pictures_that_both_have(tmp_path: Path) -> None:
    features = append_to(tmp_path / "a", blobs(60, 3))
    before = maps.make_map(features, None, PCA, quiet)
    fewer = append_to(tmp_path / "b", blobs(60, 3)[20:], first=21)
    after = maps.make_map(fewer, None, PCA, quiet, onto=("0001", before))
    moved = aligning.compare_maps(before, after)
    assert after.about.aligned_to == "0001"
    assert sorted(moved.ids) == list(range(21, 61))
    assert moved.shares.max() < 0.2
    assert (np.diff(moved.shares) <= 0).all()


def test_a_picture_that_moved_comes_first(features: FeatureSet) -> None:
    before = maps.make_map(features, None, PCA, quiet)
    shifted = before.positions_N2.copy()
    shifted[17] += 5 * np.abs(shifted).max()
    moved = aligning.compare_maps(before, map_files.PictureMap(before.about, shifted, before.rows))
    assert moved.ids[0] == 18


def test_maps_without_common_pictures_cannot_be_compared(tmp_path: Path) -> None:
    a = maps.make_map(append_to(tmp_path / "a", blobs(20, 2)), None, PCA, quiet)
    b = maps.make_map(append_to(tmp_path / "b", blobs(20, 2), first=100), None, PCA, quiet)
    with pytest.raises(BadInput, match="only 0 pictures in common"):
        aligning.compare_maps(a, b)


@pytest.mark.parametrize("method", ["tsne", "umap", "pca"])
def test_new_pictures_are_placed_among_their_like_and_the_others_stay(tmp_path: Path, method: map_files.Method) -> None:
    features = append_to(tmp_path, blobs(N, GROUPS))
    plan, _ = maps.settle(method, N, 24, steps=None if method == "pca" else 150)
    before = maps.make_map(features, neighbours_of(features, 24), plan, quiet)
    more = append_to(tmp_path, blobs(12, GROUPS, seed=5), first=N + 1)
    after, n = placing.place(more, method)
    assert n == after.about.n_placed == 12
    assert np.array_equal(after.positions_N2[:N], before.positions_N2)
    assert agreement_with_groups(after.positions_N2, np.arange(N + 12) % GROUPS) == 1
    assert np.array_equal(map_files.read_map(more, method).positions_N2, after.positions_N2)


def test_a_disk_that_fills_up_while_placing_leaves_the_map_to_place_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = maps.make_map(append_to(tmp_path, blobs(N, GROUPS)), None, PCA, quiet)
    more = append_to(tmp_path, blobs(2, 2), first=1000)

    def full(path: Path, _array: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise DiskFull("No room left.")

    with monkeypatch.context() as patch:
        patch.setattr("engine.records.write_array", full)
        with pytest.raises(DiskFull):
            placing.place(more, "pca")
    assert map_files.read_any_map(more, "pca").about == before.about
    after, n = placing.place(more, "pca")
    assert n == 2
    assert np.array_equal(after.positions_N2[:N], before.positions_N2)


def test_positions_that_are_not_finite_do_not_take_the_place_of_a_map(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = maps.settle("umap", N, 20, steps=10)
    table = neighbours_of(features, 20)
    before = maps.make_map(features, table, plan, quiet)
    monkeypatch.setattr(maps, "lay_out_umap", lambda *_, **__: np.full((N, 2), np.nan, np.float32))
    with pytest.raises(Diverged, match="120 positions are not finite"):
        maps.make_map(features, table, plan, quiet)
    assert np.array_equal(map_files.read_map(features, "umap").positions_N2, before.positions_N2)


def test_two_processes_do_not_write_one_map(features: FeatureSet) -> None:
    maps.make_map(features, None, PCA, quiet)
    labels = {int(number): str(number % 5) for number in features.ids_N}
    with sole_writer(features.folder, "writes the set"):
        for work in (
            lambda: maps.make_map(features, None, PCA, quiet),
            lambda: placing.place(features, "pca"),
            lambda: make_class_map(features, labels, quiet, steps=10),
        ):
            with pytest.raises(Busy, match="writes the set"):
                work()
        assert map_files.current_map(features, PCA)  # which is read all the same


def test_placing_nothing_changes_nothing(features: FeatureSet) -> None:
    before = maps.make_map(features, None, PCA, quiet)
    after, n = placing.place(features, "pca")
    assert n == 0
    assert np.array_equal(before.positions_N2, after.positions_N2)


def test_a_changed_picture_is_placed_anew_and_one_that_went_leaves(tmp_path: Path) -> None:
    from engine.sets import FAILED, ROW, FeatureWriter
    from tests.blobs import PLAN

    features = append_to(tmp_path, blobs(N, GROUPS))
    before = maps.make_map(features, neighbours_of(features), SHORT, quiet)
    rows = np.array(features.rows)
    rows["hash"][3] = (1, 2)
    rows["state"][4] = FAILED
    assert rows.dtype == ROW
    writer = FeatureWriter.at(tmp_path, PLAN)
    writer._rows.put(np.arange(N), rows)
    after, n = placing.place(FeatureSet(tmp_path), "tsne")
    assert n == 1
    assert not after.is_on_N[4]
    stayed = np.setdiff1d(np.arange(N), [3, 4])
    assert np.array_equal(after.positions_N2[stayed], before.positions_N2[stayed])
    assert not np.array_equal(after.positions_N2[3], before.positions_N2[3])


def test_placing_without_a_map_is_refused(features: FeatureSet) -> None:
    with pytest.raises(BadInput, match="has no t-SNE map"):
        placing.place(features, "tsne")


def test_placing_among_very_many_works_on_a_grid() -> None:
    random = np.random.default_rng(0)
    positions = (random.normal(size=(10_500, 2)) * 30 + [400, -200]).astype(np.float32)
    near = np.tile(np.arange(15, dtype=np.int32), (4, 1))
    placed = place_among(positions, near, np.full((4, 15), 0.9, np.float32), is_tsne=True, threads=1)
    middle = positions[:15].mean(axis=0)
    assert np.linalg.norm(placed - middle, axis=1).max() < 60


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
def test_the_nearest_are_those_of_a_full_comparison(n: int, k: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n + 5, 6)).astype(np.float32)
    queries, among = np.arange(5), np.arange(5, n + 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    products = unit[:5] @ unit[5:].T
    found, likeness = nearest_among(vectors, queries, among, k)
    assert likeness == pytest.approx(-np.sort(-products, axis=1)[:, : min(k, n)], abs=1e-5)
    assert np.take_along_axis(products, found, 1) == pytest.approx(likeness, abs=1e-5)


def test_the_measures_are_those_of_scikit_learn(features: FeatureSet) -> None:
    from sklearn.manifold import trustworthiness

    positions = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    found = faithfulness(features.vectors_ND, np.arange(N), positions, None)
    assert found is not None
    expected = trustworthiness(features.vectors_ND, positions, n_neighbors=map_files.K, metric="cosine")
    assert found.trustworthiness == pytest.approx(expected, abs=1e-3)
    assert found.label_agreement is None
    unit = features.vectors_ND / np.linalg.norm(features.vectors_ND, axis=1, keepdims=True)
    perfect = faithfulness(unit[:, :2], np.arange(N), unit[:, :2] / np.linalg.norm(unit[:, :2], axis=1)[:, None], None)
    assert perfect is not None
    assert perfect.neighbours_kept > 0.99
    assert perfect.trustworthiness > 0.99


def test_classes_are_laid_out_by_their_means_with_a_notice_of_the_perplexity(features: FeatureSet) -> None:
    labels = {number: f"class {number % 6}" for number in range(1, 100)}
    said: list[object] = []
    made = make_class_map(features, labels, said.append, steps=400)
    assert made.about.names == tuple(f"class {i}" for i in range(6))
    assert sum(made.about.counts) == 99
    assert made.about.perplexity == pytest.approx(5 / 3)
    assert any("only 6 classes" in m.text for m in said if isinstance(m, Noticed))
    assert np.isfinite(made.positions_C2).all()
    kept = read_class_map(features, labels)
    assert kept.about == made.about
    assert np.array_equal(make_class_map(features, labels, quiet, steps=400).positions_C2, made.positions_C2)


def test_the_picture_of_a_class_is_the_one_nearest_to_its_mean(features: FeatureSet) -> None:
    labels = {number: str((number - 1) % GROUPS) for number in range(1, N + 1)}
    made = make_class_map(features, labels, quiet, steps=10)
    for place, name in enumerate(made.about.names):
        inside = np.flatnonzero([labels[number] == name for number in range(1, N + 1)])
        off = np.linalg.norm(features.vectors_ND[inside] - features.vectors_ND[inside].mean(axis=0), axis=1)
        assert made.about.nearest[place] == inside[off.argmin()] + 1


def test_a_map_of_classes_is_out_of_date_when_a_label_changes(features: FeatureSet) -> None:
    labels = {number: str(number % 5) for number in range(1, N + 1)}
    with pytest.raises(BadInput, match="has no map of classes"):
        read_class_map(features, labels)
    make_class_map(features, labels, quiet, steps=10)
    with pytest.raises(BadInput, match="out of date"):
        read_class_map(features, labels | {1: "4"})


def test_three_classes_are_too_few_for_a_map(features: FeatureSet) -> None:
    with pytest.raises(BadInput, match="3 different labels"):
        make_class_map(features, {1: "a", 2: "b", 3: "c"}, quiet)


def test_rows_without_label_or_features_have_no_code(tmp_path: Path) -> None:
    features = append_to(tmp_path, blobs(4, 2), unseen=[1])
    names, codes = label_codes(features, {1: "b", 2: "a", 4: "a"})
    assert names == ["a", "b"]
    assert codes.tolist() == [1, -1, -1, 0]
