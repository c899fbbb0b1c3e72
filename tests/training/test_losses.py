import numpy as np
import pytest
import torch
from torch.nn import functional as F

from faceproof.training import losses
from faceproof.training.loop import auroc

LOGIT = torch.tensor([3.0, -2.0, 0.5, -0.1])
TARGET = torch.tensor([1.0, 0.0, 0.0, 1.0])


def test_smoothing_zero_is_plain_cross_entropy():
    torch.testing.assert_close(losses.smoothed_bce(LOGIT, TARGET), F.binary_cross_entropy_with_logits(LOGIT, TARGET))


def test_focal_with_gamma_zero_is_cross_entropy_and_gamma_quietens_the_easy():
    plain = F.binary_cross_entropy_with_logits(LOGIT, TARGET)
    torch.testing.assert_close(losses.focal(LOGIT, TARGET, gamma=0.0), plain)
    assert losses.focal(LOGIT, TARGET, gamma=2.0) < plain


def test_focal_agrees_with_the_formula():
    p = torch.sigmoid(LOGIT)
    right = torch.where(TARGET > 0.5, p, 1 - p)
    torch.testing.assert_close(losses.focal(LOGIT, TARGET), (-((1 - right) ** 2) * right.log()).mean())


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_no_loss_becomes_infinite_on_saturated_logits(logit):
    z = torch.full((2,), logit, requires_grad=True)
    for loss in losses.LOSSES.values():
        value = loss(z, torch.tensor([0.0, 1.0]))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()


def test_class_averaging_ignores_the_ratio_of_classes():
    crowded = losses.class_averaged_bce(torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    even = losses.class_averaged_bce(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(crowded, even)
    assert torch.isfinite(losses.class_averaged_bce(LOGIT, torch.ones(4)))


def test_weights_weigh():
    heavy = losses.smoothed_bce(LOGIT, TARGET, torch.tensor([0.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(heavy, F.binary_cross_entropy_with_logits(LOGIT[2], TARGET[2]))


def test_auroc_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, scores = rng.integers(0, 2, 50), rng.integers(0, 8, 50) / 8  # many ties
        if 0 < labels.sum() < 50:
            assert auroc(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert auroc(np.ones(3), np.arange(3)) == 0.5


def test_ranking_looks_at_differences_within_pairs_only():
    logit = torch.tensor([0.0, 2.0, -5.0, -3.0])
    torch.testing.assert_close(losses.pair_rank(logit), F.softplus(torch.tensor(-2.0)))
    torch.testing.assert_close(losses.pair_rank(logit + 7), losses.pair_rank(logit))
    assert losses.pair_rank(logit.flip(0)) > losses.pair_rank(logit)


def test_distilling_is_done_when_student_and_teacher_agree():
    student = LOGIT.clone().requires_grad_()
    losses.distilled(student, LOGIT, temperature=3.0).backward()
    torch.testing.assert_close(student.grad, torch.zeros(4), atol=1e-7, rtol=0)
    certain = (TARGET - 0.5) * 200  # a teacher without a doubt is the label
    plain = F.binary_cross_entropy_with_logits(LOGIT, TARGET)
    torch.testing.assert_close(losses.distilled(LOGIT, certain, temperature=1.0), plain)
