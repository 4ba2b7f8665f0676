"""The k-NN classifier against its formula, and in the corners where the reference fails."""

import math

import numpy as np
import pytest
import torch

from engine.measuring.knn import knn_accuracy, knn_votes, nearest


def test_votes_are_the_sum_of_exp_likeness_over_temperature():
    generator = torch.Generator().manual_seed(0)
    known, queries = torch.randn(40, 8, generator=generator), torch.randn(7, 8, generator=generator)
    labels = torch.arange(40) % 3
    votes = knn_votes(queries, known, labels, k=5)
    for row, query in enumerate(queries.double().numpy()):
        likeness = (
            known.double().numpy() @ query / np.linalg.norm(known.double().numpy(), axis=1) / np.linalg.norm(query)
        )
        expected = np.zeros(3)
        for index in np.argsort(-likeness)[:5]:
            expected[labels[index]] += math.exp(likeness[index] / 0.07)
        assert votes[row].double().numpy() == pytest.approx(expected, rel=1e-4)


def test_fewer_pictures_than_neighbours_all_vote():
    likeness, index = nearest(torch.eye(3), torch.eye(3), 20)
    assert likeness.shape == index.shape == (3, 3)
    assert knn_accuracy(torch.eye(3), torch.arange(3), torch.eye(3), torch.arange(3)) == 1.0


def test_a_class_nobody_knows_is_never_right():
    assert knn_accuracy(torch.eye(2), torch.tensor([0, -1]), torch.eye(2), torch.tensor([0, 1])) == 0.5
