"""Copies: what is told from what, groups, what to keep, the suggested threshold, the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from engine.commands.listing import write_csv
from engine.commands.scanning import scan_into
from engine.errors import BadInput, BadRecipe
from engine.finding import duplicate_files
from engine.finding.duplicate_files import Duplicates, keep_duplicates, read_duplicates, regrouped
from engine.finding.duplicates import (
    HIGHEST,
    LOWEST,
    SURELY_COPIES,
    find_duplicates,
    suggest_threshold,
    whitening_of,
)
from engine.project import Project
from engine.sets import Block, FeatureWriter
from engine.terminal import run
from tests.descriptors import write_set, write_table
from tests.makers import set_plan, write_photos

WIDTH = 16


def quiet(_message: object) -> None:
    pass


def strangers(n: int, *, width: int = WIDTH, seed: int = 0, kinds: int = 20) -> np.ndarray:
    """Descriptors of different pictures of some kinds, far from zero and of unlike variances, as real ones are."""
    random = np.random.default_rng(seed)
    kind_of = random.integers(0, kinds, n)
    middles = 0.7 * random.standard_normal((kinds, width))
    return (middles[kind_of] + random.standard_normal((n, width))) * np.geomspace(3, 0.1, width) + 5


def nearly(rows: np.ndarray, *, by: float = 0.02, seed: int = 1) -> np.ndarray:
    """The same pictures, a little changed in every direction."""
    noise = np.random.default_rng(seed).standard_normal(rows.shape)
    return rows + by * noise * np.geomspace(3, 0.1, rows.shape[1])


def found_in(folder: Path, copies_ND: np.ndarray, *, threshold=None, pixels=None, **set_of) -> Duplicates:
    features = write_set(folder, copies_ND, **set_of)
    return find_duplicates(features, write_table(features), pixels or {}, quiet, threshold=threshold)


def as_sets(found: Duplicates) -> list[set[int]]:
    return [{member.picture for member in group.members} for group in found.groups]


def test_whitening_equals_the_reference(shared):
    golden = load_file(shared.parent / "golden" / "copy_detection.safetensors")
    features = golden["whiten.features"].astype(np.float64)
    moment = features.T @ features / len(features)
    np.testing.assert_allclose(moment, golden["whiten.cov"], atol=1e-5)

    whitening = whitening_of(golden["whiten.mean"].astype(np.float64), golden["whiten.cov"].astype(np.float64))

    gram = whitening.axes_DD @ whitening.axes_DD.T
    np.testing.assert_allclose(gram, golden["whiten.dvt_gram"], atol=1e-6 * gram.max())
    queries, base = whitening.applied(golden["whiten.query"]), whitening.applied(golden["whiten.db"])
    theirs = [
        golden[name] / np.linalg.norm(golden[name], axis=1, keepdims=True)
        for name in ("whiten.query_out", "whiten.db_out")
    ]
    np.testing.assert_allclose(queries @ base.T, theirs[0] @ theirs[1].T, atol=1e-5)


def test_whitening_lifts_directions_that_hardly_vary_no_further_than_the_reference(shared):
    golden = load_file(shared.parent / "golden" / "copy_detection.safetensors")
    whitening = whitening_of(np.zeros(12), golden["deficient.cov"].astype(np.float64))
    gram = whitening.axes_DD @ whitening.axes_DD.T
    np.testing.assert_allclose(gram, golden["deficient.dvt_gram"], atol=0.01 * gram.max())


def test_a_changed_copy_is_found_among_look_alikes(tmp_path):
    pictures = strangers(300)
    found = found_in(tmp_path, np.concatenate([pictures, nearly(pictures[7:8])]))
    assert found.whitening == "reference"
    assert as_sets(found) == [{8, 301}]
    assert found.groups[0].likeness > 0.98
    assert not found.groups[0].pairs[0].is_exact


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [10, 40, 300])
def test_a_set_without_copies_has_none(tmp_path, n, seed):
    assert found_in(tmp_path, strangers(n, seed=seed)).groups == []


@pytest.mark.parametrize(("n", "n_copies"), [(40, 4), (300, 30), (300, 150)])
def test_planted_copies_are_found_and_nothing_else(tmp_path, n, n_copies):
    pictures = strangers(n)
    found = found_in(tmp_path, np.concatenate([pictures, nearly(pictures[:n_copies])]))
    assert sorted(map(sorted, as_sets(found))) == [[i + 1, n + i + 1] for i in range(n_copies)]


def test_whitening_finds_what_plain_cosine_hides(tmp_path):
    """The first direction is common to all and outshines the others, by which pictures differ."""
    random = np.random.default_rng(0)
    pictures = random.standard_normal((200, WIDTH)) * 0.1
    pictures[:, 0] = 50
    pictures = np.concatenate([pictures, pictures[3:4] + 0.002])
    unit = pictures / np.linalg.norm(pictures, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.999
    assert as_sets(found_in(tmp_path, pictures)) == [{4, 201}]


def test_equal_files_are_copies_whatever_the_features_say(tmp_path):
    hashes = list(range(1, 61))
    hashes[10] = hashes[40] = hashes[5]
    found = found_in(tmp_path, strangers(60), hashes=hashes)
    assert as_sets(found) == [{6, 11, 41}]
    (group,) = found.groups
    assert {member.keep for member in group.members} == {6}
    assert all(pair.is_exact and pair.likeness == 1 for pair in group.pairs)


def test_files_that_could_not_be_read_are_no_copies_and_never_worth_keeping(tmp_path):
    hashes = list(range(1, 61))
    hashes[5] = hashes[4] = hashes[3] = hashes[2]
    found = found_in(tmp_path, strangers(60), hashes=hashes, unseen=[2, 5])
    assert as_sets(found) == [{4, 5}]
    assert {member.keep for member in found.groups[0].members} == {4}
    assert found.n_pictures == 58


def test_pictures_that_are_left_out_are_neither_copies_nor_counted(tmp_path):
    pictures = strangers(300)
    pictures = np.concatenate([pictures, nearly(pictures[7:8]), nearly(pictures[7:8], seed=2)])
    hashes = list(range(1, 303))
    hashes[20] = hashes[10]
    features = write_set(tmp_path, pictures, hashes=hashes)
    found = find_duplicates(features, write_table(features), {}, quiet, left_out={8, 11})
    assert as_sets(found) == [{301, 302}]
    assert found.n_pictures == 300


def test_unseen_pictures_have_no_copies(tmp_path):
    pictures = strangers(60)
    pictures[50] = pictures[1]
    found = found_in(tmp_path, pictures, unseen=[50, 51, 52])
    assert found.groups == []
    assert found.n_pictures == 57


def test_a_chain_of_three_has_two_worth_keeping_where_its_end_is_the_largest(tmp_path):
    pictures, pixels = chain()
    found = found_in(tmp_path, pictures, pixels=pixels, threshold=0.8)
    (group,) = found.groups
    assert [(member.picture, member.keep) for member in group.members] == [(1, 1), (2, 1), (3, 3)]
    assert [(pair.first, pair.second) for pair in group.pairs] == [(1, 2), (2, 3)]


def test_a_chain_of_three_has_one_worth_keeping_where_its_middle_is_the_largest(tmp_path):
    pictures, pixels = chain()
    found = found_in(tmp_path, pictures, pixels={**pixels, 2: 900}, threshold=0.8)
    assert [(member.picture, member.keep) for member in found.groups[0].members] == [(2, 2), (1, 2), (3, 2)]


def chain() -> tuple[np.ndarray, dict[int, int]]:
    """Pictures at 0, 30 and 60 degrees: cosine 0.87 from one to the next, 0.5 between the ends."""
    angles = np.deg2rad([0, 30, 60])
    pictures = np.zeros((3, WIDTH))
    pictures[:, 0], pictures[:, 1] = np.cos(angles), np.sin(angles)
    return pictures, {1: 500, 2: 300, 3: 400}


def test_the_largest_picture_is_kept_then_the_oldest(tmp_path):
    pictures = np.repeat(strangers(1), 4, axis=0)
    found = found_in(tmp_path, pictures, ids=[4, 6, 8, 9], hashes=[1, 2, 3, 4], pixels={4: 10, 6: 20, 8: 20, 9: 5})
    (group,) = found.groups
    assert [member.picture for member in group.members] == [6, 8, 4, 9]
    assert {member.keep for member in group.members} == {6}


def test_one_picture_has_no_copies(tmp_path):
    assert found_in(tmp_path, strangers(1)).groups == []


def test_two_pictures_are_compared(tmp_path):
    one = strangers(1)
    assert as_sets(found_in(tmp_path / "same", np.concatenate([one, nearly(one)]))) == [{1, 2}]
    other = one * np.resize([1, -1], WIDTH)
    assert as_sets(found_in(tmp_path / "other", np.concatenate([one, other]))) == []


def test_pictures_that_are_all_one_to_the_backbone_end_well(tmp_path):
    found = found_in(tmp_path, np.ones((100, WIDTH)))
    assert found.groups == []


def test_features_that_are_not_finite_are_refused(tmp_path):
    pictures = strangers(80)
    pictures[4, 4] = np.inf
    with pytest.raises(BadInput, match="finite"):
        found_in(tmp_path, pictures, vectors_ND=strangers(80))


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_that_is_no_likeness_is_refused(tmp_path, threshold):
    with pytest.raises(BadRecipe, match="threshold"):
        found_in(tmp_path, strangers(3), threshold=threshold)


def test_the_same_set_gives_the_same_file(tmp_path):
    pictures = strangers(120)
    pictures = np.concatenate([pictures, nearly(pictures[:20])])
    written = []
    for name in ("one", "other"):
        features = write_set(tmp_path / name, pictures)
        keep_duplicates(features, find_duplicates(features, write_table(features), {}, quiet))
        written.append((tmp_path / name / "duplicates.json").read_bytes())
    assert written[0] == written[1]


def test_kept_duplicates_are_read_again_until_the_set_changes(tmp_path):
    features = write_set(tmp_path, np.repeat(strangers(1), 2, axis=0))
    with pytest.raises(BadInput, match="has no list of duplicates"):
        read_duplicates(features)
    found = find_duplicates(features, write_table(features), {}, quiet)
    keep_duplicates(features, found)
    assert read_duplicates(features) == found
    more = Block(
        np.ones((1, WIDTH), np.float32), np.ones((1, WIDTH), np.float16), np.ones(1, bool), np.zeros((1, 2), np.uint16)
    )
    FeatureWriter.at(tmp_path, features.plan).append([3], ["ff"], more)
    with pytest.raises(BadInput, match="out of date"):
        read_duplicates(type(features)(tmp_path))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.55, 0.6, 0.9, 1.0])
def test_a_higher_threshold_gives_the_groups_that_a_search_with_it_gives(tmp_path, threshold):
    pictures = strangers(150)
    pictures = np.concatenate([pictures, nearly(pictures[:30], by=0.5), nearly(pictures[:20], by=0.9, seed=2)])
    pixels = {number: number % 7 for number in range(1, 201)}
    hashes = list(range(1, 201))
    hashes[40] = hashes[41] = hashes[3]
    low = found_in(tmp_path / "low", pictures, threshold=0.5, pixels=pixels, hashes=hashes)
    high = found_in(tmp_path / "high", pictures, threshold=max(threshold, 0.5), pixels=pixels, hashes=hashes)
    assert regrouped(low, threshold, pixels) == high.groups


def test_a_group_of_which_not_all_pairs_are_kept_stays_whole_below_them(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicate_files, "PAIRS_LISTED", 3)
    pictures = strangers(300)
    found = found_in(tmp_path, np.concatenate([pictures, nearly(np.repeat(pictures[:1], 4, axis=0))]))
    (group,) = found.groups
    assert (len(group.pairs), group.n_pairs) == (3, 10)
    assert regrouped(found, group.pairs[-1].likeness, {}) == [group]
    assert regrouped(found, 1.0, {}) == []


@given(st.integers(40, 2000), st.floats(8, 80), st.integers(0, 1000), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_an_exponential_tail_is_cut_where_it_ends(n, fall, per_thousand_copies, seed):
    """The rule is given pairs whose tail is as it supposes; copies lie far above it."""
    random = np.random.default_rng(seed)
    tail = np.tanh(np.sort(random.exponential(1 / fall, 8 * n)))
    n_copies = n * per_thousand_copies // 1000
    threshold, _ = suggest_threshold(np.concatenate([tail, np.full(n_copies, 0.99)]), n, "reference")
    assert LOWEST <= threshold <= HIGHEST
    exact = np.tanh(np.log(8 * n / 0.1) / fall)
    if LOWEST < exact < HIGHEST - 0.1 and n >= 200:
        assert threshold == pytest.approx(exact, abs=0.2)


def test_where_nearly_all_have_copies_the_threshold_is_a_sure_one():
    assert suggest_threshold(np.full(500, 0.99), 100, "reference")[0] == SURELY_COPIES


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Photos under two labels and in two splits: three copies across both, and two within one of each."""
    photos = tmp_path / "photos"
    write_photos(photos / "train" / "a", 6)
    write_photos(photos / "test" / "b", 6)
    Image.open(photos / "train" / "a" / "p00.jpg").resize((160, 120)).save(photos / "test" / "b" / "p00.jpg")
    (photos / "train" / "b").mkdir()
    (photos / "train" / "a" / "within.jpg").write_bytes((photos / "train" / "a" / "p01.jpg").read_bytes())
    (photos / "train" / "b" / "again.jpg").write_bytes((photos / "train" / "a" / "p00.jpg").read_bytes())
    for i in range(1, 6):
        Image.fromarray(255 - np.asarray(Image.open(photos / "test" / "b" / f"p{i:02d}.jpg"))).save(
            photos / "test" / "b" / f"p{i:02d}.jpg"
        )
    with Project.at(tmp_path / "photos.dinoviz", pictures=photos) as made:
        scan_into(made, quiet)
        pictures = made.pictures()
        copies = descriptors_by_pixels(photos, [picture.path for picture in pictures])
        plan = set_plan(width=copies.shape[1] // 2, dimensions=copies.shape[1])
        block = Block(
            copies.astype(np.float32),
            copies.astype(np.float16),
            np.ones(len(copies), bool),
            np.zeros((len(copies), 2), np.uint16),
        )
        folder = made.set_folder(plan)
        FeatureWriter.at(folder, plan).append([p.id for p in pictures], [p.hash or "" for p in pictures], block)
        write_table(made.features())
    return tmp_path / "photos.dinoviz"


def descriptors_by_pixels(root: Path, paths: list[str]) -> np.ndarray:
    small = [np.asarray(Image.open(root / path).convert("RGB").resize((8, 6)), np.float64).ravel() for path in paths]
    return np.stack(small) / 255


def test_the_command_lists_groups_leaks_and_labels(project, capsys):
    assert run(["duplicates", str(project), "--json", "--quiet", "--threshold", "0.9"]) == 0
    data = json.loads(capsys.readouterr().out)
    group, within = sorted(data["groups"], key=lambda group: -len(group["pictures"]))
    assert (within["labels"], within["splits"]) == (["a"], ["train"])
    assert [picture["path"] for picture in group["pictures"]] == [
        str(Path("test/b/p00.jpg")),
        str(Path("train/a/p00.jpg")),
        str(Path("train/b/again.jpg")),
    ]
    assert {picture["keep"] for picture in group["pictures"]} == {group["pictures"][0]["id"]}
    assert (group["labels"], group["splits"]) == (["a", "b"], ["test", "train"])
    assert data["between_splits"] == {"test + train": 1}
    assert (data["could_go"], data["across_labels"]) == (3, 1)


@pytest.mark.parametrize("is_scanned", [True, False])
def test_a_file_that_is_gone_is_not_named_and_never_to_be_kept(project, capsys, is_scanned):
    largest = project.with_name("photos") / "train" / "a" / "p01.jpg"
    assert run(["duplicates", str(project), "--json", "--quiet", "--threshold", "0.9"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert any("p01.jpg" in picture["path"] for group in before["groups"] for picture in group["pictures"])
    largest.unlink()
    if is_scanned:
        assert run(["scan", str(largest.parents[2]), "--quiet"]) in (0, 4)
        capsys.readouterr()
    assert run(["duplicates", str(project), "--json", "--quiet", "--threshold", "0.9"]) == 0
    after = json.loads(capsys.readouterr().out)
    (group,) = after["groups"]
    assert (len(group["pictures"]), after["could_go"]) == (3, 2)
    assert after["pictures"] == before["pictures"] - 1
    assert after["not_compared"] == before["not_compared"] + 1


def test_the_command_writes_a_sheet_and_a_table_and_changes_no_picture(project, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.jpg")}
    assert run(["duplicates", str(project), "--threshold", "0.9", "--write", str(tmp_path / "out")]) == 0
    assert "in several splits (leaks): 1 group: test + train 1" in capsys.readouterr().out
    with (tmp_path / "out" / "duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["keep"] for row in rows) == ["no", "no", "no", "yes", "yes"]
    with Image.open(tmp_path / "out" / "duplicates-1.png") as sheet:
        assert sheet.width > 5 * 190
    assert {path: path.read_bytes() for path in (tmp_path / "photos").rglob("*.jpg")} == before


@pytest.mark.parametrize("flag", ["--across-splits", "--across-labels"])
def test_groups_within_one_split_and_label_can_be_left_out(project, capsys, flag):
    run(["duplicates", str(project), "--threshold", "0.9", "--json", "--quiet", flag])
    data = json.loads(capsys.readouterr().out)
    assert data["groups_found"] == 2
    assert [len(group["pictures"]) for group in data["groups"]] == [3]


def test_a_project_without_features_says_how_to_make_them(tmp_path, capsys):
    write_photos(tmp_path / "photos", 1)
    run(["scan", str(tmp_path / "photos"), "--quiet"])
    assert run(["duplicates", str(tmp_path / "photos.dinoviz")]) == 3
    assert "engine embed" in capsys.readouterr().err


def test_a_name_that_a_spreadsheet_would_run_is_made_harmless(tmp_path, capsys):
    write_photos(tmp_path / "photos", 3)
    photo = (tmp_path / "photos" / "p00.jpg").read_bytes()
    for name in ("=HYPERLINK(1).jpg", "@.jpg"):
        (tmp_path / "photos" / name).write_bytes(photo)
    assert run(["embed", str(tmp_path / "photos"), "--model", "bundled", "--device", "cpu", "--quiet"]) == 0
    assert run(["duplicates", str(tmp_path / "photos.dinoviz"), "--write", str(tmp_path / "out"), "--quiet"]) == 0
    with (tmp_path / "out" / "duplicates.csv").open(newline="", encoding="utf-8") as file:
        paths = {row["path"] for row in csv.DictReader(file)}
    assert paths == {"'=HYPERLINK(1).jpg", "'@.jpg", "p00.jpg"}


def test_names_that_are_no_utf8_are_written_as_the_exports_write_them(tmp_path):
    write_csv(tmp_path / "t.csv", ["path", "likeness"], [["caf\udce9.jpg", -0.5]])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines() == ["path,likeness", "caf\\udce9.jpg,-0.5"]
