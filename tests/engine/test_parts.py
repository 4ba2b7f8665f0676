"""A part of a picture is found again, in the right picture and at its place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadInput, Stopped
from engine.finding import parts
from engine.finding.explain import explain
from engine.finding.parts import PartSearcher, likeness_of_places, make_part_index
from engine.finding.vectors import centred
from engine.sets import Block, FeatureSet, FeatureWriter
from engine.templates import Template, Templates
from tests.makers import set_plan

WIDTH = 8


def made_set(folder, grids, *, seed=0, unseen=()) -> FeatureSet:
    """A set of pictures with random patches; every picture has a rest that all share."""
    random = np.random.default_rng(seed)
    plan = set_plan(view="whole", side=64, width=WIDTH, has_patches=True)
    writer = FeatureWriter.at(folder, plan)
    n = len(grids)
    is_seen = np.array([i not in unseen for i in range(n)])
    grids = np.array(grids, np.uint16) * is_seen[:, None]
    patches = 3 + random.standard_normal((int(grids.astype(int).prod(axis=1).sum()), WIDTH))
    vectors = random.standard_normal((n, WIDTH)).astype(np.float32)
    block = Block(vectors, np.zeros((n, 2 * WIDTH), np.float16), is_seen, grids, patches.astype(np.float16))
    writer.append(list(range(1, n + 1)), ["0"] * n, block)
    return FeatureSet(folder)


def part_of(features: FeatureSet, row: int, top: int, left: int, high: int, wide: int) -> Templates:
    grid = features.patches_of(row).astype(np.float32)
    cut = grid[top : top + high, left : left + wide]
    return Templates(
        (
            Template(
                patches_RCW=cut,
                is_part_RC=np.ones((high, wide), np.bool_),
                edges=(0.0, 0.0, high, wide),
                scale=1.0,
                is_mirrored=False,
            ),
        )
    )


@pytest.mark.parametrize("exact_up_to", [50_000, 0])
def test_a_part_is_first_found_where_it_was_cut_out(tmp_path, monkeypatch, exact_up_to):
    monkeypatch.setattr(parts, "EXACT_UP_TO", exact_up_to)
    features = made_set(tmp_path, [(8, 8 + i % 3) for i in range(40)])
    about = make_part_index(features, lambda _: None)
    assert (about.lists == 0) == (exact_up_to > 0)
    searcher = PartSearcher(features)
    for row, top, left in ((0, 0, 0), (17, 3, 4), (39, 5, 5)):
        best = searcher.search(part_of(features, row, top, left, 3, 2), 5)[0]
        assert best.row == row
        assert best.likeness == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(best.box, (top, left, top + 3, left + 2), atol=0.5)


def test_a_mirrored_part_says_so(tmp_path):
    features = made_set(tmp_path, [(6, 6)] * 5)
    make_part_index(features, lambda _: None)
    (straight,) = part_of(features, 3, 1, 2, 3, 3).all
    # What a mirrored picture's part looks like, and the same mirrored back.
    mirrored = Template(
        patches_RCW=straight.patches_RCW[:, ::-1],
        is_part_RC=straight.is_part_RC,
        edges=straight.edges,
        scale=1.0,
        is_mirrored=False,
    )
    back = Template(
        patches_RCW=straight.patches_RCW,
        is_part_RC=straight.is_part_RC,
        edges=straight.edges,
        scale=1.0,
        is_mirrored=True,
    )
    best = PartSearcher(features).search(Templates((mirrored, back)), 1)[0]
    assert (best.row, best.is_mirrored) == (3, True)


def test_pictures_that_were_not_seen_are_not_found(tmp_path):
    features = made_set(tmp_path, [(4, 4)] * 6, unseen=(2, 5))
    assert make_part_index(features, lambda _: None).patches == 64
    found = PartSearcher(features).search(part_of(features, 1, 0, 0, 2, 2), 10)
    assert {part.row for part in found} <= {0, 1, 3, 4}


def test_a_part_larger_than_a_picture_is_not_laid_on_it(tmp_path):
    features = made_set(tmp_path, [(8, 8), (2, 2)])
    make_part_index(features, lambda _: None)
    found = PartSearcher(features).search(part_of(features, 0, 0, 0, 6, 6), 10)
    assert [part.row for part in found] == [0]


def test_an_index_that_was_stopped_goes_on_and_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "EXACT_UP_TO", 100)
    monkeypatch.setattr(parts, "BLOCK_PATCHES", 4 * 42)
    grids = [(6, 7)] * 30
    whole, cut = made_set(tmp_path / "whole", grids), made_set(tmp_path / "cut", grids)
    make_part_index(whole, lambda _: None)
    asked: list[int] = []

    def at_third() -> bool:
        asked.append(0)
        return len(asked) == 3

    with pytest.raises(Stopped):
        make_part_index(cut, lambda _: None, at_third)
    with pytest.raises(BadInput, match="has no index of patches"):
        PartSearcher(cut)
    told = []
    make_part_index(cut, told.append)
    assert told[0].done == 4 * 4 * 42  # three blocks were there
    assert (tmp_path / "cut/parts.faiss").read_bytes() == (tmp_path / "whole/parts.faiss").read_bytes()


def test_blocks_are_as_large_as_their_patches_and_hold_whole_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "BLOCK_PATCHES", 100)
    grids = [(10, 12), (2, 3), (9, 9), (1, 1), (5, 5), (20, 20), (3, 3), (3, 3)]
    features = made_set(tmp_path, grids, unseen=(4,))
    blocks = list(parts._blocks(features, parts._seen(features)))
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(len(features.patches_PW)))
    ends = set(np.cumsum([rows * cols for i, (rows, cols) in enumerate(grids) if i != 4]).tolist())
    assert {int(block[-1]) + 1 for block in blocks} <= ends
    assert all(len(block) < 100 + 400 for block in blocks)
    assert [len(block) for block in blocks] == [120, 6 + 81, 1 + 400, 9 + 9]


def test_an_index_stopped_between_other_blocks_goes_on_and_holds_each_patch_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "EXACT_UP_TO", 100)
    monkeypatch.setattr(parts, "BLOCK_PATCHES", 5 * 42)
    features = made_set(tmp_path, [(6, 7)] * 30)
    with pytest.raises(Stopped):
        make_part_index(features, lambda _: None, lambda: True)
    monkeypatch.setattr(parts, "BLOCK_PATCHES", 4 * 42)
    make_part_index(features, lambda _: None)
    assert PartSearcher(features)._index.ntotal == 30 * 42


def test_a_kill_after_the_index_got_its_name_does_not_repeat_it(tmp_path, monkeypatch):
    features = made_set(tmp_path, [(4, 4)] * 3)

    class Killed(BaseException):
        """Ends the process as far as this test goes."""

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(parts, "replace", lambda source, target: (source.replace(target), killed()))
        with pytest.raises(Killed):
            make_part_index(features, lambda _: None)
    (tmp_path / ".parts.part.faiss.1-2.tmp").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_learnt", killed)
        make_part_index(features, lambda _: None)
    assert not list(tmp_path.glob(".*.tmp"))
    assert PartSearcher(features).search(part_of(features, 1, 0, 0, 2, 2), 1)[0].row == 1
    with pytest.raises(Killed), monkeypatch.context() as patch:
        patch.setattr(parts, "_learnt", killed)
        make_part_index(features, lambda _: None, again=True)


def test_an_index_of_other_features_is_refused(tmp_path):
    features = made_set(tmp_path, [(4, 4)] * 3)
    make_part_index(features, lambda _: None)
    rows = np.array(features.rows[:1])
    rows["state"] = 3
    FeatureWriter(tmp_path, features.plan).mark_gone(np.array([0]))
    with pytest.raises(BadInput, match="out of date"):
        PartSearcher(FeatureSet(tmp_path))


def test_a_set_without_patches_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No patches"):
        make_part_index(made_set(tmp_path, [(4, 4)], unseen=(0,)), lambda _: None)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_likeness_of_places_is_the_mean_cosine(rows, cols, high, wide, seed):
    high, wide = min(high, rows), min(wide, cols)
    random = np.random.default_rng(seed)
    picture = centred(random.standard_normal((rows, cols, WIDTH)).astype(np.float32), np.zeros(WIDTH, np.float32))
    template = centred(random.standard_normal((high, wide, WIDTH)).astype(np.float32), np.zeros(WIDTH, np.float32))
    likeness = likeness_of_places(picture, template, high * wide)
    for y in range(rows - high + 1):
        for x in range(cols - wide + 1):
            there = (picture[y : y + high, x : x + wide] * template).sum(axis=-1).mean()
            assert likeness[y, x] == pytest.approx(there, abs=1e-5)


def test_templates_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(1)
    written = Templates(
        tuple(
            Template(
                patches_RCW=random.standard_normal((*grid, WIDTH)).astype(np.float32),
                is_part_RC=random.random(grid) < 0.5,
                edges=(0.25, -0.5, 2.0, 1.75),
                scale=scale,
                is_mirrored=scale < 1,
            )
            for grid, scale in (((2, 3), 1.0), ((1, 1), 0.5), ((4, 2), 0.7))
        )
    )
    written.write(tmp_path / "part.npz")
    for a, b in zip(Templates.read(tmp_path / "part.npz").all, written.all, strict=True):
        np.testing.assert_array_equal(a.patches_RCW, b.patches_RCW)
        np.testing.assert_array_equal(a.is_part_RC, b.is_part_RC)
        assert (a.edges, a.scale, a.is_mirrored) == (b.edges, b.scale, b.is_mirrored)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", None])
def test_a_file_that_holds_no_part_is_refused(tmp_path, content):
    if content is None:
        np.savez(tmp_path / "part.npz", other=np.zeros(3))
    else:
        (tmp_path / "part.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"part\.npz"):
        Templates.read(tmp_path / "part.npz")


def test_equal_patches_explain_each_other_and_others_less():
    random = np.random.default_rng(3)
    one, other = random.standard_normal((2, 4, 5, 32))
    other[1:3, 1:3] = one[0:2, 3:5]
    shared = explain(one, other)
    assert shared.one_RC[0:2, 3:5].min() > 0.999
    assert shared.other_RC[1:3, 1:3].min() > 0.999
    assert shared.one_RC[3].max() < 0.9
    assert (shared.one_RC.shape, shared.one_RC.min() >= 0) == ((4, 5), True)
