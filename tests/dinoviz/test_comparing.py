"""What is counted from tables of neighbours is what the engine counts from the features themselves."""

import numpy as np
import pytest

from dinoviz.table import PictureTable
from dinoviz.views.compare.agreement import Accuracy, Neighbourhood, gain, knn_accuracy, overlap, read_neighbourhood
from dinoviz.views.compare.verdict import verdict
from engine.commands.embed import accuracy
from engine.finding.index import make_index
from engine.project import Picture, Project
from engine.sets import Block, FeatureWriter
from tests.makers import set_plan

N, D = 120, 6


def made_project(folder, *, splits=(None,), labels=("hat", "shoe", "dress"), seed=0, n_sets=1):
    """A project with labelled pictures and sets of features in which labels are near each other."""
    random = np.random.default_rng(seed)
    (folder / "photos").mkdir(exist_ok=True)
    project = Project.at(folder / "photos.dinoviz", pictures=folder / "photos")
    codes = random.integers(0, len(labels), N)
    project.record(
        Picture(
            path=f"{i:03d}.jpg", size_bytes=1, mtime_ns=1, hash=f"{i:032x}", rows=8, cols=8,
            label=labels[codes[i]] if labels[codes[i]] else None, split=splits[i % len(splits)],
        )
        for i in range(N)
    )  # fmt: skip
    pictures = project.pictures()
    for number in range(n_sets):
        plan = set_plan(model=f"m{number}", model_sha256=f"{number:064x}", dimensions=D, width=4)
        writer = FeatureWriter.at(project.set_folder(plan), plan)
        centres = np.random.default_rng(7).normal(size=(len(labels), D))
        vectors = (centres[codes] + random.normal(size=(N, D))).astype(np.float32)
        block = Block(
            vectors_ND=vectors,
            copies_ND=np.zeros((N, 8), np.float16),
            is_seen_N=np.arange(N) != 5,
            grids_N2=np.zeros((N, 2), np.uint16),
        )
        writer.append([p.id for p in pictures], [p.hash for p in pictures], block)
        project.use_set(plan)
        make_index(project.features(f"m{number}"), lambda _message: None)
    return project


@pytest.mark.parametrize("splits", [(None,), ("train", "train", "test"), ("train", "val"), ("val", None)])
def test_the_accuracy_is_that_which_embedding_tells(tmp_path, splits):
    with made_project(tmp_path, splits=splits) as project:
        features, table = project.features(), PictureTable.read(project)
        expected, said = accuracy(features, project.pictures())
        found = knn_accuracy(read_neighbourhood(features.folder), table)
    assert found.share == pytest.approx(expected, abs=1e-6)
    assert said.startswith(f"{found.asked:,} {found.split}".strip())


def test_pictures_without_a_label_neither_vote_nor_are_asked(tmp_path):
    with made_project(tmp_path, labels=("hat", "shoe", "")) as project:
        features, table = project.features(), PictureTable.read(project)
        expected, _ = accuracy(features, project.pictures())
        found = knn_accuracy(read_neighbourhood(features.folder), table)
    assert found.asked < N - 1
    # The engine leaves unlabelled pictures out before it looks for neighbours, as is done here: the vote is the same.
    assert found.share == pytest.approx(expected, abs=1e-6)


def test_one_label_alone_tells_nothing(tmp_path):
    with made_project(tmp_path, labels=("hat",)) as project:
        near = read_neighbourhood(project.features().folder)
        assert knn_accuracy(near, PictureTable.read(project)) is None


def test_a_set_without_neighbours_has_none_to_compare(tmp_path):
    with made_project(tmp_path) as project:
        folder = project.features().folder
        (folder / "neighbours.json").unlink()
        assert read_neighbourhood(folder) is None


def test_common_neighbours_are_counted_picture_by_picture(tmp_path):
    with made_project(tmp_path, n_sets=2) as project:
        one, other = (read_neighbourhood(project.features(f"m{i}").folder) for i in range(2))
    found = overlap(one, other, k=10)
    for picture in found.ids_B[:20].tolist():
        same = set(one.of(picture).tolist()) & set(other.of(picture).tolist())
        assert found.of(picture) == len(same)
    assert found.mean == pytest.approx(found.same_B.mean())
    changed = [found.of(int(i)) for i in found.most_changed()]
    assert changed == sorted(changed)


def test_a_set_compared_with_itself_has_all_neighbours_in_common(tmp_path):
    with made_project(tmp_path) as project:
        near = read_neighbourhood(project.features().folder)
    assert (overlap(near, near).same_B == 10).all()


def test_a_picture_that_was_not_seen_is_in_no_neighbourhood(tmp_path):
    with made_project(tmp_path) as project:
        near = read_neighbourhood(project.features().folder)
        unseen = project.pictures()[5].id
    assert unseen not in near.ids_N and not any(unseen in near.of(int(picture), near.k) for picture in near.ids_N)
    assert len(near.of(unseen)) == 0
    assert overlap(near, near).of(unseen) is None


def test_few_pictures_have_fewer_neighbours():
    near = Neighbourhood(
        ids_N=np.array([1, 2, 3]),
        places_N=np.arange(3),
        all_ids=np.array([1, 2, 3, -1]),
        rows_Sk=np.array([[1, 2], [0, -1], [0, 1]], np.int32),
        likeness_Sk=np.ones((3, 2), np.float32),
    )
    assert near.of(2).tolist() == [1]
    assert overlap(near, near).same_B.tolist() == [2, 1, 2]


def answers(right: list[bool], first: int = 1) -> Accuracy:
    return Accuracy(ids_Q=np.arange(first, first + len(right)), is_right_Q=np.array(right), split="")


def test_a_gain_is_that_of_the_same_pictures_with_the_error_of_their_differences():
    one, other = answers([True, True, True, False]), answers([True, False, False, False, True], first=0)
    found = gain(one, other)
    assert found.n == 4
    differences = np.array([1, 1, 1, -1])
    assert found.share == differences.mean()
    assert found.error == pytest.approx(differences.std(ddof=1) / 2)
    assert not found.is_larger_than_chance
    assert gain(one, answers([True], first=9)) is None


def test_the_verdict_says_which_is_better_and_whether_that_is_more_than_chance():
    n = 400
    weak, strong = [True] * 200 + [False] * 200, [True] * 240 + [False] * 160
    said = verdict([("Old", answers(weak)), ("New", answers(strong)), ("Worst", answers([False] * n))])
    assert said.startswith("New is better than Old: its neighbours name 10.0 more of 100 pictures rightly (± 3.0")
    assert "400 pictures" in said and said.endswith("That is more than chance.")
    nearly = [True] * 200 + [False] * 199 + [True]
    assert verdict([("Old", answers(weak)), ("New", answers(nearly))]).startswith("No difference that is more than")
    assert verdict([("Old", answers(weak))]) == ""
