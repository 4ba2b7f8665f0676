"""How good features are, told by sets of pictures whose features are given."""

import math

import pytest
import torch
import torch.nn.functional as F

from engine.project import Picture
from engine.training.gauge import MOST_ASKED, Gauge, make_gauge
from engine.training.losses import effective_rank
from tests.makers import write_photos


def _gauge(known: range, asked: range, labels: list[int] | None = None) -> Gauge:
    n = max(known.stop, asked.stop)
    labels_N = None if labels is None else torch.tensor(labels)
    return Gauge(torch.zeros(n, 8, 8, 3, dtype=torch.uint8), torch.tensor(known), torch.tensor(asked), labels_N)


def _measured(gauge: Gauge, features_ND: torch.Tensor, start_Qk: torch.Tensor | None = None):
    return gauge.measure(lambda _pictures: features_ND, start_Qk)


@pytest.fixture
def features_ND():
    return torch.randn(60, 16, generator=torch.Generator().manual_seed(0))


def test_few_pictures_are_each_asked_about_beside_the_others(features_ND):
    gauge = _gauge(range(60), range(60), [i % 3 for i in range(60)])
    look = _measured(gauge, features_ND)
    unit_ND = F.normalize(features_ND, dim=-1)
    likeness_NN = (unit_ND @ unit_ND.T).fill_diagonal_(-2)
    assert look.neighbours_Qk.tolist() == likeness_NN.topk(15, dim=1).indices.tolist()  # a quarter of the 59 others
    assert look.reading.n_asked == 60


def test_a_copy_does_not_take_a_pictures_own_place_among_its_neighbours(features_ND):
    copied_ND = torch.cat([features_ND, features_ND])
    look = _measured(_gauge(range(120), range(120)), copied_ND)
    own_Q = torch.arange(120)
    assert not (look.neighbours_Qk == own_Q.unsqueeze(1)).any()
    assert (look.neighbours_Qk == ((own_Q + 60) % 120).unsqueeze(1)).any(dim=1).all()


def test_labels_that_features_tell_apart_are_all_guessed(features_ND):
    labels = [i % 3 for i in range(60)]
    apart_ND = F.one_hot(torch.tensor(labels), 16).float() * 20 + features_ND
    for gauge in (_gauge(range(60), range(60), labels), _gauge(range(40), range(40, 60), labels)):
        assert _measured(gauge, apart_ND).reading.knn == 1.0


def test_a_label_that_nobody_knows_is_never_right(features_ND):
    look = _measured(_gauge(range(40), range(40, 60), [0] * 50 + [-1] * 10), features_ND)
    assert look.reading.knn == 0.5


def test_neighbours_of_the_start_count_beyond_chance(features_ND):
    gauge = _gauge(range(60), range(60))
    start = _measured(gauge, features_ND)
    assert start.reading.neighbours_of_start == 1.0
    assert _measured(gauge, 3 * features_ND, start.neighbours_Qk).reading.neighbours_of_start == 1.0
    others_ND = torch.randn(60, 16, generator=torch.Generator().manual_seed(1))
    assert _measured(gauge, others_ND, start.neighbours_Qk).reading.neighbours_of_start == pytest.approx(0, abs=0.06)
    little_ND = features_ND + 0.1 * others_ND
    assert 0.8 < _measured(gauge, little_ND, start.neighbours_Qk).reading.neighbours_of_start < 1.0


def test_the_rank_is_that_of_all_directions(features_ND):
    look = _measured(_gauge(range(40), range(40, 60)), 7 * features_ND)
    assert look.reading.effective_rank == pytest.approx(effective_rank(F.normalize(features_ND, dim=-1)).item(), 1e-5)


def test_features_that_are_not_finite_have_no_rank(features_ND):
    features_ND[3, 2] = math.nan
    gauge = _gauge(range(60), range(60), [i % 3 for i in range(60)])
    assert math.isnan(_measured(gauge, features_ND, torch.zeros(60, 15, dtype=torch.int64)).reading.effective_rank)


def test_only_what_there_is_is_told(features_ND):
    unlabelled, labelled = _gauge(range(60), range(60)), _gauge(range(60), range(60), [0, 1] * 30)
    first = _measured(unlabelled, features_ND)
    assert first.scores(None) == {}
    assert first.scores(first) == {"neighbours_kept": 1.0}
    assert set(_measured(labelled, features_ND).scores(None)) == {"knn"}


def _pictures(n: int, **changed: str) -> list[Picture]:
    return [Picture(path=f"p{i:02d}.jpg", size_bytes=1, mtime_ns=0, rows=60, cols=80, **changed) for i in range(n)]


def test_pictures_set_aside_for_tests_are_asked_about(tmp_path):
    write_photos(tmp_path, 12)
    train, test = _pictures(12, label="a", split="train")[:8], _pictures(12, label="a", split="test")[8:]
    gauge = make_gauge(tmp_path, [*train, *test], 16, 0)
    assert gauge is not None
    assert (len(gauge.known_K), gauge.asked_Q.tolist()) == (8, [8, 9, 10, 11])
    assert gauge.pictures_NYXC.shape == (12, 16, 16, 3)


def test_without_such_all_are_asked_about_while_they_are_few(tmp_path):
    write_photos(tmp_path, 6)
    gauge = make_gauge(tmp_path, _pictures(6), 16, 0)
    assert gauge is not None
    assert gauge.known_K.tolist() == gauge.asked_Q.tolist() == list(range(6))
    assert gauge.labels_N is None
    assert make_gauge(tmp_path, _pictures(3), 16, 0) is None


def test_of_many_every_tenth_is_asked_about(tmp_path):
    write_photos(tmp_path, 1)
    many = [p for p in _pictures(1) for _ in range(MOST_ASKED + 6)]
    gauge = make_gauge(tmp_path, many, 16, 0)
    assert gauge is not None
    assert (len(gauge.known_K), len(gauge.asked_Q)) == (927, 103)


def test_pictures_that_cannot_be_read_are_left_out(tmp_path):
    write_photos(tmp_path, 6)
    (tmp_path / "p02.jpg").write_bytes(b"no picture")
    gauge = make_gauge(tmp_path, _pictures(8), 16, 0)
    assert gauge is not None
    assert len(gauge.known_K) == 5
