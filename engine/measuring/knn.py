"""The weighted k-nearest-neighbour classifier of Wu et al. 2018, as DINO measures with it (eval_knn.py).

Letters after a name are its axes: Q pictures asked about · N pictures with known labels · D width · C classes
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20  # DINO app. F: the best of 10, 20, 100, 200
TEMPERATURE = 0.07  # eval_knn.py
ASKED_AT_ONCE, KNOWN_AT_ONCE = 512, 1 << 16  # likenesses held at once: 128 MB, whatever the number of pictures


def nearest(queries_QD: Tensor, known_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return cosine likeness and index of the ``k`` nearest known pictures of each query, nearest first: (Q, k)."""
    queries_QD = F.normalize(queries_QD.float(), dim=-1)
    likeness_Qk = queries_QD.new_zeros(len(queries_QD), 0)
    index_Qk = torch.zeros(len(queries_QD), 0, dtype=torch.int64, device=queries_QD.device)
    for first in range(0, len(known_ND), KNOWN_AT_ONCE):
        known_DB = F.normalize(known_ND[first : first + KNOWN_AT_ONCE].float(), dim=-1).T
        best = [
            (asked_QD @ known_DB).topk(min(k, known_DB.shape[1]), dim=1) for asked_QD in queries_QD.split(ASKED_AT_ONCE)
        ]
        likeness_Qk = torch.cat([likeness_Qk, torch.cat([part.values for part in best])], dim=1)
        index_Qk = torch.cat([index_Qk, torch.cat([part.indices for part in best]) + first], dim=1)
        likeness_Qk, place_Qk = likeness_Qk.topk(min(k, likeness_Qk.shape[1]), dim=1)
        index_Qk = index_Qk.gather(1, place_Qk)
    return likeness_Qk, index_Qk


def knn_accuracy(
    queries_QD: Tensor, truth_Q: Tensor, known_ND: Tensor, labels_N: Tensor, *, k: int = NEIGHBOURS
) -> float:
    """Return the share of queries whose most voted class is the true one.

    Args:
        queries_QD: features, any length.
        truth_Q: int64; a class that nobody knows is never right.
        known_ND: features with labels.
        labels_N: int64, 0 and up.
        k: neighbours that vote; all of them when there are fewer.
    """
    likeness_Qk, index_Qk = nearest(queries_QD, known_ND, k)
    weights_Qk = (likeness_Qk / TEMPERATURE).exp()
    return (_most_voted(weights_Qk, index_Qk, labels_N) == truth_Q).float().mean().item()


def leave_one_out_accuracy(features_ND: Tensor, labels_N: Tensor, asked_Q: Tensor, *, k: int = NEIGHBOURS) -> float:
    """Return the share of the asked pictures whose ``k`` nearest others vote for their own label.

    Args:
        features_ND: features of all pictures.
        labels_N: int64, 0 and up.
        asked_Q: int64, places of the pictures asked about.
        k: neighbours that vote.
    """
    likeness_Qk, index_Qk = nearest(features_ND[asked_Q], features_ND, k + 1)
    # Where copies lie before a picture itself among its neighbours, it is still itself that is left out.
    is_itself_Qk = index_Qk == asked_Q.unsqueeze(1)
    is_itself_Qk[:, -1] |= ~is_itself_Qk.any(dim=1)
    weights_Qk = (likeness_Qk / TEMPERATURE).exp().masked_fill(is_itself_Qk, 0.0)
    return (_most_voted(weights_Qk, index_Qk, labels_N) == labels_N[asked_Q]).float().mean().item()


def _most_voted(weights_Qk: Tensor, index_Qk: Tensor, labels_N: Tensor) -> Tensor:
    """Return the class with the most votes of each query, some queries at a time as there may be many classes."""
    parts = zip(weights_Qk.split(ASKED_AT_ONCE), index_Qk.split(ASKED_AT_ONCE), strict=True)
    return torch.cat([votes(weights, index, labels_N).argmax(dim=1) for weights, index in parts])


def votes(weights_Qk: Tensor, index_Qk: Tensor, labels_N: Tensor) -> Tensor:
    """Return the votes for each class, (Q, C): the sum of the weights of the neighbours of that class."""
    votes_QC = weights_Qk.new_zeros(len(weights_Qk), int(labels_N.max()) + 1)
    return votes_QC.scatter_add_(1, labels_N[index_Qk], weights_Qk)
