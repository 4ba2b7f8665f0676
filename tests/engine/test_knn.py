"""The k-NN classifier against its formula, and in the corners where the reference fails."""

import math

import numpy as np
import pytest
import torch

from engine.measuring import knn
from engine.measuring.knn import TEMPERATURE, knn_accuracy, leave_one_out_accuracy, nearest, votes


def test_votes_are_the_sum_of_exp_likeness_over_temperature():
    generator = torch.Generator().manual_seed(0)
    known, queries = torch.randn(40, 8, generator=generator), torch.randn(7, 8, generator=generator)
    labels = torch.arange(40) % 3
    found, index = nearest(queries, known, 5)
    counted = votes((found / TEMPERATURE).exp(), index, labels)
    for row, query in enumerate(queries.double().numpy()):
        likeness = (
            known.double().numpy() @ query / np.linalg.norm(known.double().numpy(), axis=1) / np.linalg.norm(query)
        )
        expected = np.zeros(3)
        for index in np.argsort(-likeness)[:5]:
            expected[labels[index]] += math.exp(likeness[index] / 0.07)
        assert counted[row].double().numpy() == pytest.approx(expected, rel=1e-4)


def test_fewer_pictures_than_neighbours_all_vote():
    likeness, index = nearest(torch.eye(3), torch.eye(3), 20)
    assert likeness.shape == index.shape == (3, 3)
    assert knn_accuracy(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3)) == 1.0


def test_a_class_nobody_knows_is_never_right():
    assert knn_accuracy(torch.eye(2), torch.tensor([0, -1]), torch.eye(2), torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize("at_once", [7, 64])
def test_neighbours_do_not_depend_on_how_many_are_compared_at_once(monkeypatch, at_once):
    generator = torch.Generator().manual_seed(1)
    known, queries = torch.randn(100, 8, generator=generator), torch.randn(9, 8, generator=generator)
    whole = nearest(queries, known, 10)
    monkeypatch.setattr(knn, "KNOWN_AT_ONCE", at_once)
    monkeypatch.setattr(knn, "ASKED_AT_ONCE", 4)
    in_parts = nearest(queries, known, 10)
    torch.testing.assert_close(in_parts[0], whole[0])
    assert torch.equal(in_parts[1], whole[1])


def test_a_picture_does_not_vote_for_itself():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    assert leave_one_out_accuracy(features, labels, torch.tensor([0]), k=2) == 0.0
    assert leave_one_out_accuracy(features, labels, torch.tensor([2, 3]), k=3) == 1.0
