"""The weighted k-nearest-neighbour classifier of Wu et al. 2018, as DINO measures with it (eval_knn.py).

Letters after a name are its axes: Q pictures asked about · N pictures with known labels · D width · C classes
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURS = 20  # DINO app. F: the best of 10, 20, 100, 200
TEMPERATURE = 0.07  # eval_knn.py
CHUNK = 1024  # rows of likeness held at once


def nearest(queries_QD: Tensor, known_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return cosine likeness and index of the ``k`` nearest known pictures of each query, nearest first: (Q, k)."""
    known_DN = F.normalize(known_ND.float(), dim=-1).T
    found = [
        (chunk @ known_DN).topk(min(k, len(known_ND)), dim=1)
        for chunk in F.normalize(queries_QD.float(), dim=-1).split(CHUNK)
    ]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


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
    votes_Qk = (likeness_Qk / TEMPERATURE).exp().masked_fill(is_itself_Qk, 0.0)
    votes_QC = votes_Qk.new_zeros(len(asked_Q), int(labels_N.max()) + 1).scatter_add_(1, labels_N[index_Qk], votes_Qk)
    return (votes_QC.argmax(dim=1) == labels_N[asked_Q]).float().mean().item()


def knn_votes(queries_QD: Tensor, known_ND: Tensor, labels_N: Tensor, *, k: int = NEIGHBOURS) -> Tensor:
    """Return the votes for each class, (Q, C): the sum of exp(likeness / 0.07) over the neighbours of that class.

    Args:
        queries_QD: features, any length.
        known_ND: features with labels.
        labels_N: int64, 0 and up.
        k: neighbours that vote; all of them when there are fewer.
    """
    likeness_Qk, index_Qk = nearest(queries_QD, known_ND, k)
    votes_QC = likeness_Qk.new_zeros(len(queries_QD), int(labels_N.max()) + 1)
    return votes_QC.scatter_add_(1, labels_N[index_Qk], (likeness_Qk / TEMPERATURE).exp())


def knn_accuracy(
    queries_QD: Tensor, truth_Q: Tensor, known_ND: Tensor, labels_N: Tensor, *, k: int = NEIGHBOURS
) -> float:
    """Return the share of queries whose most voted class is the true one."""
    return (knn_votes(queries_QD, known_ND, labels_N, k=k).argmax(dim=1) == truth_Q).float().mean().item()
