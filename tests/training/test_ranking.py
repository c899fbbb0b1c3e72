"""A head fitted alone: the direction of pairs, whatever the faces have in common, on a backbone that stays as it was."""

import numpy as np
import pytest
import torch
from tests.training.test_committee import write_untrained
from tests.training.test_loop import TINY

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, load_recipe
from faceproof.training.committee import load_committee
from faceproof.training.ranking import fit_head, rank_direction

CLOSE = TINY | {"run.precision": "32-true", "run.workers": 0}


def _start(path, changes=None):
    return write_untrained(path, 3, {"network.high_pass": True} | (changes or {}))


def test_the_direction_is_what_differs_within_pairs():
    rng = np.random.default_rng(0)
    people = rng.normal(0, 10, (600, 5))  # spread far along the very axes that matter
    change = np.array([1.0, -0.5, 0, 0, 0])
    forged = people + change + rng.normal(0, 0.5, people.shape)
    found = rank_direction(forged - people, 0.05)
    assert found @ change / np.linalg.norm(found) / np.linalg.norm(change) > 0.99


def test_a_strong_penalty_leaves_the_mean_difference():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.3, 1, (200, 8)) * rng.uniform(0.5, 2, 8)
    found, mean = rank_direction(differences, 1e4), differences.mean(0)
    assert found @ mean / np.linalg.norm(found) / np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    assert found == pytest.approx(mean / 2e4, rel=1e-2)  # the logistic loss starts with slope 1/2


def test_a_head_is_fitted_on_a_frozen_backbone_and_sits_in_a_committee(shards, tmp_path):
    start = _start(tmp_path / "start.pt", {"input.size": 96, "input.crop": 1.2})
    recipe = load_recipe(
        "faceproof-small-mouth", CLOSE | {"input.size": 64, "input.crop": 0.8, "pairs.crop": (0.7, 0.9)}
    )
    made = fit_head(recipe, start, shards, tmp_path / "head.pt", count=64)
    before, after = (checkpoints.load(path)["network"] for path in (start, made.path))
    for key, value in before.items():
        if not key.startswith("classifier"):
            torch.testing.assert_close(after[key], value)
    assert made.held_out_pairs > 0.5  # untrained features show forgeries too, a little
    joint = load_committee([start, made.path])
    assert [member.name for member in joint.members] == ["faceproof-small", "faceproof-small-mouth"]
    assert torch.isfinite(joint.network(torch.zeros(1, 3, *[joint.recipe.input.size] * 2)).logit).all()


def test_what_does_not_fit_is_refused(shards, tmp_path):
    start = _start(tmp_path / "start.pt", {"network.width": 16})
    with pytest.raises(TrainingError, match="another backbone"):
        fit_head(load_recipe("faceproof-small-mouth", CLOSE), start, shards, tmp_path / "head.pt")
    with pytest.raises(TrainingError, match="statistics"):
        fit_head(load_recipe("faceproof-small", CLOSE), start, shards, tmp_path / "head.pt")
