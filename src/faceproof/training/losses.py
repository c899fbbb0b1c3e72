"""Losses on logits. Targets are float, 1 = fake; every loss takes optional per-sample weights.

`logit`, `target`, `weight`: float32 `[N]`. All return a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    return values.mean() if weight is None else (values * weight).sum() / weight.sum().clamp_min(1e-8)


def smoothed_bce(logit: Tensor, target: Tensor, weight: Tensor | None = None, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy with targets pulled towards 0.5 by `smoothing` (0 = plain)."""
    soft = target * (1 - smoothing) + 0.5 * smoothing
    return _mean(F.binary_cross_entropy_with_logits(logit, soft, reduction="none"), weight)


def focal(logit: Tensor, target: Tensor, weight: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) from logits, so that a saturated sigmoid cannot make it infinite."""
    cross_entropy = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    # 1 - p_t = exp(log_sigmoid(-z)) with z the logit of the right class: exact also where p_t rounds to 1
    signed = logit * (2 * target - 1)
    return _mean(torch.exp(gamma * F.logsigmoid(-signed)) * cross_entropy, weight)


def class_averaged_bce(
    logit: Tensor, target: Tensor, weight: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Mean loss of the fakes and mean loss of the reals, averaged: a batch's class ratio does not matter.

    A class absent from the batch does not count. This is the loss of the DFDC challenge's first place.
    """
    soft = target * (1 - smoothing) + 0.5 * smoothing
    values = F.binary_cross_entropy_with_logits(logit, soft, reduction="none")
    classes = [mask for mask in (target > 0.5, target <= 0.5) if bool(mask.any())]
    return torch.stack([_mean(values[m], None if weight is None else weight[m]) for m in classes]).mean()


def mask_bce(heatmap: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of a predicted mask; `heatmap` logits and `mask` in [0, 1], both `[N, h, w]`."""
    if heatmap.shape[-2:] != mask.shape[-2:]:
        mask = F.adaptive_avg_pool2d(mask[:, None], (heatmap.shape[-2], heatmap.shape[-1]))[:, 0]
    return F.binary_cross_entropy_with_logits(heatmap, mask)


def distilled(logit: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of softened probabilities, scaled so that gradients keep their size (Hinton et al., 2015, section 2).

    logit and teacher are logits of any one shape; the teacher's carry no gradient.
    """
    soft = torch.sigmoid(teacher.detach() / temperature)
    return F.binary_cross_entropy_with_logits(logit / temperature, soft) * temperature**2


def pair_rank(logit: Tensor) -> Tensor:
    """How far a pair's fake is from scoring above its real: mean softplus(real - fake); rows 2k are real, 2k + 1 fake.

    Person, light and compression are the same in both, so they cancel and only the forgery is left to learn
    (pairwise logistic loss, Burges et al., ICML 2005).
    """
    real, fake = logit.view(-1, 2).unbind(1)
    return F.softplus(real - fake).mean()


#: Names a recipe may use.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "bce": smoothed_bce,
    "focal": focal,
    "class_averaged_bce": class_averaged_bce,
}
