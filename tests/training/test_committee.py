"""Several checkpoints as one: views line up, means are means, and what does not belong together is refused."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.training.test_loop import TINY

from faceproof.errors import TrainingError
from faceproof.training import checkpoints, load_recipe, package
from faceproof.training.committee import AreaShrink, Committee, View, average_weights, load_committee, plan_views
from faceproof.training.networks import FaceNetwork, build_network
from faceproof.training.recipe import InputTable
from faceproof.training.shards import FaceStore

WIDE = {"input.size": 96, "input.crop": 1.5}


def write_untrained(path, seed, changes=None):
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


def _table(size, crop, down=0.0):
    return InputTable(size=size, crop=crop, down=down)


def test_each_member_sees_the_middle_at_its_own_size(members):
    picture = torch.rand(3, 3, 96, 96) * 2 - 1
    table, views = plan_views([_table(96, 1.5), _table(64, 1.0)])
    assert (table.size, table.crop, views[1]) == (96, 1.5, View(16, 16, 64, 64))
    joint = Committee(members, views, 96).eval()(picture)
    whole, middle = members[0](picture), members[1](picture[:, :, 16:80, 16:80])
    torch.testing.assert_close(joint.logit, (whole.logit + middle.logit) / 2)
    torch.testing.assert_close(joint.heatmap[:, 2:10, 2:10], (whole.heatmap[:, 2:10, 2:10] + middle.heatmap) / 2)
    torch.testing.assert_close(joint.heatmap[:, :2], whole.heatmap[:, :2])  # the edge is seen by one alone


def test_a_close_up_sits_where_its_recipe_looks_and_the_others_get_fewer_pixels(members):
    # 120 pixels a face box for the close-up, 80 for the other
    table, views = plan_views([_table(96, 1.2), _table(80, 2 / 3, 4 / 15)])
    assert (table.size, views) == (144, [View(0, 0, 144, 96), View(32, 64, 80, 80)])
    picture = torch.rand(2, 3, 144, 144) * 2 - 1
    joint = Committee(members, views, 144).eval()(picture)
    small = np.stack([cv2.resize(p.permute(1, 2, 0).numpy(), (96, 96), interpolation=cv2.INTER_AREA) for p in picture])
    whole = members[0](torch.from_numpy(small).permute(0, 3, 1, 2))
    near = members[1](picture[:, :, 64:144, 32:112])
    torch.testing.assert_close(joint.logit, (whole.logit + near.logit) / 2, atol=1e-4, rtol=1e-4)
    assert joint.heatmap.shape == (2, 18, 18)
    only = Committee(members[1:], views[1:], 144).eval()(picture)
    torch.testing.assert_close(only.heatmap[:, 8:18, 4:14], near.heatmap)
    assert (only.heatmap[:, :8].sigmoid() < 0.001).all()  # where nobody looked nothing is claimed


@given(p=st.integers(1, 9), q=st.integers(1, 9), blocks=st.integers(1, 4), seed=st.integers(0, 99))
def test_area_shrinking_is_the_training_datas(p, q, blocks, seed):
    side, size = blocks * max(p, q), blocks * min(p, q)
    picture = np.random.default_rng(seed).random((side, side, 3), np.float32)
    expected = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    found = AreaShrink(side, size)(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_what_cannot_sit_together_is_refused(members, tmp_path):
    with pytest.raises(TrainingError, match="grid of 8"):
        Committee(members, [View(0, 0, 96, 96), View(12, 12, 72, 72)], 96)
    a, b = write_untrained(tmp_path / "a.pt", 0), write_untrained(tmp_path / "b.pt", 1, {"input.mean": (0.4, 0.4, 0.4)})
    with pytest.raises(TrainingError, match="normalise"):
        load_committee([a, b])


def test_the_widest_view_comes_first_and_gives_its_recipe(tmp_path):
    close = write_untrained(tmp_path / "c.pt", 2, {"input.crop": 2 / 3, "input.down": 0.25, "pairs.crop": (0.6, 0.8)})
    loaded = load_committee([close, write_untrained(tmp_path / "a.pt", 0, WIDE)])
    assert [recipe.input.crop for recipe in loaded.members] == [1.5, 2 / 3]
    assert (loaded.recipe.input.size, loaded.recipe.input.crop) == (144, 1.5)
    alone = load_committee([close])  # a close-up alone still takes a picture centred on the face
    assert alone.recipe.input.down == 0
    assert alone.recipe.pairs.crop[1] == pytest.approx(0.8 * alone.recipe.input.crop / (2 / 3))


def test_a_committee_is_packaged_as_one_file(shards, tmp_path):
    paths = [
        write_untrained(tmp_path / "a.pt", 0),
        write_untrained(tmp_path / "b.pt", 1, WIDE | {"network.high_pass": True}),
    ]
    made = package(paths, shards, tmp_path / "package", name="both", pairs_to_score=8)
    facts = json.loads((tmp_path / "package/package.json").read_text())
    assert (facts["onnx"], facts["size"], facts["crop"]) == ("both.onnx", 96, 1.5)
    assert all(parity["logit"] < 0.05 for parity in facts["parity"])
    text = made.card.read_text()
    assert "seen in training: 160" in text  # ten steps of eight, twice
    assert "(96 px, RGB and its high pass)" in text


def test_a_mean_of_weights_lies_between_them(tmp_path):
    a, b = write_untrained(tmp_path / "a.pt", 0), write_untrained(tmp_path / "b.pt", 1)
    mean = average_weights([a, b], [0.25, 0.75])
    left, right = (checkpoints.load(path)["network"]["classifier.weight"] for path in (a, b))
    torch.testing.assert_close(mean["network"]["classifier.weight"], 0.25 * left + 0.75 * right)
    checkpoints.save(tmp_path / "mean.pt", mean)
    network = load_committee([tmp_path / "mean.pt"]).network
    torch.testing.assert_close(network.classifier.weight.data, mean["network"]["classifier.weight"])


def test_what_has_no_mean_is_refused(tmp_path):
    a, b = write_untrained(tmp_path / "a.pt", 0), write_untrained(tmp_path / "b.pt", 1, {"network.width": 16})
    for paths, weights, words in (
        ([a], None, "two"),
        ([a, b], None, "another network"),
        ([a, a], [0.5, 0.6], "add up"),
    ):
        with pytest.raises(TrainingError, match=words):
            average_weights(paths, weights)


def test_packaging_reads_each_checkpoint_once_and_the_shards_once_for_each_part(shards, tmp_path, monkeypatch):
    paths = [write_untrained(tmp_path / "a.pt", 1, WIDE), write_untrained(tmp_path / "b.pt", 2)]
    read, opened, load, store = [], [], checkpoints.load, FaceStore.__init__
    monkeypatch.setattr(checkpoints, "load", lambda path: read.append(path) or load(path))
    monkeypatch.setattr(
        FaceStore, "__init__", lambda self, *given, **more: opened.append(given[1]) or store(self, *given, **more)
    )
    made = package(paths, shards, tmp_path / "out", pairs_to_score=8)
    assert sorted(read) == sorted(paths)
    assert sorted(opened) == ["held_out", "train"]
    assert "Pictures seen in training: 160." in made.card.read_text()  # two runs of ten steps of eight
