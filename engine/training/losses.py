"""Losses, and the answers they are measured against, as pure functions of tensors: no state, no schedule.

Sinkhorn-Knopp alone speaks with the other processes, where there are any: its answer to one row depends on all
rows of the batch. SwAV's loss is `dino_loss` against `sinkhorn_knopp`'s answers (Caron et al. 2020, eq. 2).

Letters after a name are its axes:
    V views · G large views · B pictures · M masked patches · K prototypes · D width · Q queue
"""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

NEAREST_EPS = 1e-8  # dinov2 koleo_loss.py
SINKHORN_ITERATIONS = 3  # dinov2 dino_clstoken_loss.py and ibot_patch_loss.py; SwAV §4 and main_swav.py
LEAST_SUM = 1e-30  # a prototype that no row comes near: its sum would be 0 in 32 bits, and its share 0 / 0


def teacher_answer(logits_BK: Tensor, centre_1K: Tensor, temperature: float) -> Tensor:
    """Return the teacher's probabilities, centred and sharpened, float32.

    Source: DINO §3.1, alg. 1; main_dino.py DINOLoss.
    """
    return F.softmax((logits_BK.float() - centre_1K) / temperature, dim=-1)


@torch.no_grad()
def sinkhorn_knopp(logits_BK: Tensor, temperature: float, iterations: int = SINKHORN_ITERATIONS) -> Tensor:
    """Return the teacher's probabilities such that all prototypes are used alike, float32, rows sum to 1.

    Each iteration scales the prototypes to equal sums over the rows of all processes, then the rows to sum 1.
    The rows are a whole batch: answers for parts of it differ. A process may have no rows, but must call too.

    Source: DINOv2 §4; dinov2 dino_clstoken_loss.py and ibot_patch_loss.py sinkhorn_knopp_teacher; SwAV §3.1.
    Their divisions by the number of rows and of prototypes cancel in the last step and are left out. Their
    exponentials overflow from logit / temperature = 88 on; here the largest logit is taken off first, which
    cancels too. The scales are kept apart from the exponentials, so that an iteration is two products.
    """
    logits_BK = logits_BK.float() / temperature
    with torch.autocast(logits_BK.device.type, enabled=False):  # sums of thousands of rows, in 32 bits
        highest_B1 = logits_BK.amax(dim=1, keepdim=True)
        odds_BK = (logits_BK - highest_B1).exp()
        rows_B = (highest_B1 - _highest_of_all(highest_B1)).exp().squeeze(1)
        prototypes_K = logits_BK.new_ones(logits_BK.shape[1])
        for _ in range(iterations):
            sums_K = rows_B @ odds_BK
            if dist.is_initialized():
                dist.all_reduce(sums_K)
            prototypes_K = 1 / sums_K.clamp_min(LEAST_SUM)
            rows_B = 1 / (odds_BK @ prototypes_K)
        return odds_BK.mul_(prototypes_K).mul_(rows_B[:, None])


def _highest_of_all(highest_B1: Tensor) -> Tensor:
    lowest = highest_B1.new_full((1, 1), -torch.inf)
    highest = torch.cat([lowest, highest_B1]).amax()
    if dist.is_initialized():
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest


def batch_softmax(logits_BK: Tensor, temperature: float) -> Tensor:
    """Return the teacher's probabilities from a softmax over the batch, brought to sum 1 for each row, float32.

    Source: DINO table 15 and appendix B, "Softmax(batch)": the same as one iteration of Sinkhorn-Knopp.
    """
    return sinkhorn_knopp(logits_BK, temperature, iterations=1)


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
    log_VBK = (F.log_softmax(logits_BK.float() / temperature, dim=-1) for logits_BK in student_VBK)
    return -_mean_product_over_pairs(log_VBK, teacher_GBK, len(student_VBK))


def normalised_mse_loss(student_VBK: Sequence[Tensor], teacher_GBK: Sequence[Tensor]) -> Tensor:
    """Return the mean squared distance of unit vectors over all pairs of a teacher's and another student's view.

    Args:
        student_VBK: outputs of each view, large views first, of any length.
        teacher_GBK: targets of each large view, of any length; for DINO with MSE these are the logits less the
            centre, without sharpening.

    Returns:
        A scalar in 0...4, float32: 2 - 2 cos.

    Source: BYOL eq. 2, whose total over its two pairs is twice this mean; DINO table 14 and appendix B ("MSE is
    taken on l2-normalised outputs; sharpening is not applied").
    """
    unit_VBK = (F.normalize(view_BK.float(), dim=-1) for view_BK in student_VBK)
    targets_GBK = [F.normalize(view_BK.float(), dim=-1) for view_BK in teacher_GBK]
    return 2 - 2 * _mean_product_over_pairs(unit_VBK, targets_GBK, len(student_VBK))


def _mean_product_over_pairs(student_VBK: Iterable[Tensor], teacher_GBK: Sequence[Tensor], n_views: int) -> Tensor:
    everything_BK = torch.stack(list(teacher_GBK)).sum(0)
    total = everything_BK.new_zeros(())
    for view, student_BK in enumerate(student_VBK):
        target_BK = everything_BK - teacher_GBK[view] if view < len(teacher_GBK) else everything_BK
        total = total + (target_BK * student_BK).sum(dim=-1).mean()
    return total / (len(teacher_GBK) * (n_views - 1))


def ibot_loss(student_MK: Tensor, teacher_MK: Tensor, weights_M: Tensor, n_crops: int, temperature: float) -> Tensor:
    """Return the cross-entropy of masked patches: the mean over a crop's patches, then over all global crops.

    Args:
        student_MK: logits of the masked patches.
        teacher_MK: probabilities of the same patches, seen unmasked.
        weights_M: one over the number of masked patches of the patch's crop.
        n_crops: all global crops, also those without a mask, which count as 0.
        temperature: of the student.

    Returns:
        A scalar, float32; 0 where nothing is masked.

    Source: iBOT eq. 3; dinov2 ibot_patch_loss.py forward_masked. ssl_meta_arch.py multiplies it by 2 and by 1/2.
    """
    log_MK = F.log_softmax(student_MK.float() / temperature, dim=-1)
    return -((teacher_MK * log_MK).sum(dim=-1) * weights_M).sum() / n_crops


def info_nce_loss(query_BD: Tensor, key_BD: Tensor, queue_QD: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of finding a picture's own key among it and the queue's keys.

    All rows have unit length. Only the query has a gradient. An empty queue gives 0.

    Source: MoCo eq. 1 and alg. 1; MoCo-v2 takes 0.2 as the temperature.
    """
    query_BD, key_BD = query_BD.float(), key_BD.detach().float()
    with torch.autocast(query_BD.device.type, enabled=False):
        own_B1 = (query_BD * key_BD).sum(dim=1, keepdim=True)
        others_BQ = query_BD @ queue_QD.detach().float().T
        logits_BN = torch.cat([own_B1, others_BQ], dim=1) / temperature
        return (logits_BN.logsumexp(dim=1) - logits_BN[:, 0]).mean()


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

    Features that are not finite have none: nan.

    Source: Roy and Vetterli 2007; used as RankMe by Garrido et al. 2023.
    """
    centred_BD = features_BD.float() - features_BD.float().mean(0)
    if not torch.isfinite(centred_BD).all():
        return centred_BD.new_full((), torch.nan)
    values = torch.linalg.svdvals(centred_BD)
    share = values / values.sum().clamp_min(torch.finfo(torch.float32).tiny)
    return torch.special.entr(share).sum().exp()
