"""Losses as pure functions of tensors: no state, no device, no schedule.

Letters after a name are its axes:
    V views · G large views · B pictures · K prototypes · D width
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NEAREST_EPS = 1e-8  # dinov2 koleo_loss.py


def teacher_answer(logits_BK: Tensor, centre_1K: Tensor, temperature: float) -> Tensor:
    """Return the teacher's probabilities, centred and sharpened, float32.

    Source: DINO §3.1, alg. 1; main_dino.py DINOLoss.
    """
    return F.softmax((logits_BK.float() - centre_1K) / temperature, dim=-1)


def dino_loss(student_VBK: Sequence[Tensor], teacher_GBK: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean cross-entropy over all pairs of a teacher's and another student's view.

    Args:
        student_VBK: logits of each view, large views first.
        teacher_GBK: probabilities of each large view.
        temperature: of the student.

    Returns:
        A scalar, float32.

    Source: DINO eq. 3; main_dino.py DINOLoss. The sum over pairs is taken as one product for each student
    view with the sum of the teacher's answers it must meet, which is the same number in V products, not G * V.
    """
    everything_BK = torch.stack(list(teacher_GBK)).sum(0)
    total = everything_BK.new_zeros(())
    for view, logits_BK in enumerate(student_VBK):
        target_BK = everything_BK - teacher_GBK[view] if view < len(teacher_GBK) else everything_BK
        log_BK = F.log_softmax(logits_BK.float() / temperature, dim=-1)
        total = total - (target_BK * log_BK).sum(dim=-1).mean()
    pairs = len(teacher_GBK) * (len(student_VBK) - 1)
    return total / pairs


def koleo_loss(features_BD: Tensor) -> Tensor:
    """Return the Kozachenko-Leonenko term: minus the mean log distance to the nearest other row.

    Features are brought to length 1 first. Rows without another row give 0.

    Source: DINOv2 §4, dinov2 koleo_loss.py.
    """
    if len(features_BD) < 2:
        return features_BD.float().sum() * 0
    unit_BD = F.normalize(features_BD.float(), eps=NEAREST_EPS, dim=-1)
    # Without autocast: in 16 bits most neighbours of similar pictures are the wrong ones.
    with torch.no_grad(), torch.autocast(unit_BD.device.type, enabled=False):
        likeness_BB = unit_BD @ unit_BD.T
        likeness_BB.fill_diagonal_(-1)
        nearest_B = likeness_BB.argmax(dim=1)
    distance_B = F.pairwise_distance(unit_BD, unit_BD[nearest_B], eps=NEAREST_EPS)
    return -(distance_B + NEAREST_EPS).log().mean()


def entropy(answer_BK: Tensor) -> Tensor:
    """Return the mean entropy of rows of probabilities, in nats: 0 for one prototype, ln K for all alike."""
    return torch.special.entr(answer_BK).sum(dim=-1).mean()


def effective_rank(features_BD: Tensor) -> Tensor:
    """Return exp of the entropy of the normalised singular values of centred features: 1 when all lie on a line.

    Source: Roy and Vetterli 2007; used as RankMe by Garrido et al. 2023.
    """
    centred_BD = features_BD.float() - features_BD.float().mean(0)
    values = torch.linalg.svdvals(centred_BD)
    share = values / values.sum().clamp_min(torch.finfo(torch.float32).tiny)
    return torch.special.entr(share).sum().exp()
