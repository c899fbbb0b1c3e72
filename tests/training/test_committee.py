"""Several checkpoints as one: views line up, means are means, and what does not belong together is refused."""

import json

import pytest
import torch
from tests.training.test_loop import TINY

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, load_recipe, package
from faceproof.training.committee import Committee, average_weights, load_committee
from faceproof.training.networks import FaceNetwork, build_network

WIDE = {"input.size": 96, "input.crop": 1.5}


def _checkpoint(path, seed, changes=None):
    recipe = load_recipe("faceproof-small", TINY | (changes or {}))
    torch.manual_seed(seed)
    content = {
        "recipe": recipe.model_dump(mode="json"),
        "data": "",
        "network": build_network(recipe).state_dict(),
        "average": None,
        "metrics": {},
        "progress": {"step": 10},
    }
    checkpoints.save(path, content)
    return path


@pytest.fixture(scope="module")
def members():
    torch.manual_seed(0)
    return [FaceNetwork("test_efficientnet").eval() for _ in range(2)]


def test_each_member_sees_the_middle_at_its_own_size(members):
    picture = torch.rand(3, 3, 96, 96) * 2 - 1
    joint = Committee(members, [96, 64]).eval()(picture)
    whole, middle = members[0](picture), members[1](picture[:, :, 16:80, 16:80])
    torch.testing.assert_close(joint.logit, (whole.logit + middle.logit) / 2)
    torch.testing.assert_close(joint.heatmap[:, 2:10, 2:10], (whole.heatmap[:, 2:10, 2:10] + middle.heatmap) / 2)
    torch.testing.assert_close(joint.heatmap[:, :2], whole.heatmap[:, :2])  # the edge is seen by one alone


def test_views_without_a_common_grid_are_refused(members):
    with pytest.raises(TrainingError, match="no common middle"):
        Committee(members, [96, 72])


def test_members_must_see_faces_at_one_scale(tmp_path):
    a, b = _checkpoint(tmp_path / "a.pt", 0), _checkpoint(tmp_path / "b.pt", 1, {"input.size": 96})
    with pytest.raises(TrainingError, match="size / crop"):
        load_committee([a, b])
    _, recipes = load_committee([a, _checkpoint(tmp_path / "c.pt", 2, WIDE)])
    assert [recipe.input.size for recipe in recipes] == [96, 64]


def test_a_committee_is_packaged_as_one_file(shards, tmp_path):
    paths = [_checkpoint(tmp_path / "a.pt", 0), _checkpoint(tmp_path / "b.pt", 1, WIDE | {"network.high_pass": True})]
    made = package(paths, shards, tmp_path / "package", name="both", pairs_to_score=8)
    facts = json.loads((tmp_path / "package/package.json").read_text())
    assert (facts["onnx"], facts["size"], facts["crop"]) == ("both.onnx", 96, 1.5)
    assert all(parity["logit"] < 0.05 for parity in facts["parity"])
    text = made.card.read_text()
    assert "seen in training: 160" in text  # ten steps of eight, twice
    assert "(96 px, RGB and its high pass)" in text


def test_a_mean_of_weights_lies_between_them(tmp_path):
    a, b = _checkpoint(tmp_path / "a.pt", 0), _checkpoint(tmp_path / "b.pt", 1)
    mean = average_weights([a, b], [0.25, 0.75])
    left, right = (checkpoints.load(path)["network"]["classifier.weight"] for path in (a, b))
    torch.testing.assert_close(mean["network"]["classifier.weight"], 0.25 * left + 0.75 * right)
    checkpoints.save(tmp_path / "mean.pt", mean)
    network, _ = load_committee([tmp_path / "mean.pt"])
    torch.testing.assert_close(network.classifier.weight.data, mean["network"]["classifier.weight"])


def test_what_has_no_mean_is_refused(tmp_path):
    a, b = _checkpoint(tmp_path / "a.pt", 0), _checkpoint(tmp_path / "b.pt", 1, {"network.width": 16})
    for paths, weights, words in (
        ([a], None, "two"),
        ([a, b], None, "another network"),
        ([a, a], [0.5, 0.6], "add up"),
    ):
        with pytest.raises(TrainingError, match=words):
            average_weights(paths, weights)
