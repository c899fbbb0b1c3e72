"""Out of a packaged file come the networks that went in; what was folded away can be given back."""

import json

import numpy as np
import pytest
import torch
from tests.training.test_committee import write_untrained
from tests.training.test_loop import TINY
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.errors import WeightsError
from faceproof.training import checkpoints
from faceproof.training.committee import load_committee
from faceproof.training.export import export_onnx
from faceproof.training.restoring import give_statistics_back, restore, write_restored
from faceproof.training.shards import FaceStore

WIDE = {"input.size": 96, "input.crop": 1.5, "network.high_pass": True}


def _wake(network):
    """BatchNorm as after training: every statistic and weight of its own."""
    generator = torch.Generator().manual_seed(5)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -1, 1),
                (layer.running_var, 0.5, 2),
                (layer.bias.data, -1, 1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            layer.weight.data.copy_(torch.rand(layer.weight.shape, generator=generator) + 0.5)


@pytest.fixture
def packaged(tmp_path):
    """A committee of two, whose weights are not those that anything starts from, as an ONNX file; and its recipes."""
    paths = [write_untrained(tmp_path / "wide.pt", 1, WIDE), write_untrained(tmp_path / "narrow.pt", 2)]
    for path in paths:
        content = checkpoints.load(path)
        loaded = load_committee([path])
        _wake(loaded.network)
        checkpoints.save(path, content | {"network": loaded.network.state_dict()})
    joint = load_committee(paths)
    export_onnx(joint.network, joint.recipe.input.size, tmp_path / "joint.onnx", half=False)
    return tmp_path / "joint.onnx", joint


def _picture(size, count=4):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def test_each_member_says_again_what_it_said(packaged):
    path, joint = packaged
    for order in (joint.members, joint.members[::-1]):  # recipes may be named in any order
        found = restore(path, order)
        for network, recipe in zip(found, order, strict=True):
            number = joint.members.index(recipe)
            picture = _picture(recipe.input.size)
            with torch.no_grad():
                before, after = joint.network.members[number](picture), network(picture)
            torch.testing.assert_close(after.logit, before.logit, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(after.heatmap, before.heatmap, atol=1e-4, rtol=1e-4)


def test_statistics_come_back_without_changing_a_score(packaged):
    path, joint = packaged
    recipe = joint.members[0]
    network, picture = restore(path, joint.members)[0], _picture(recipe.input.size, 16)
    with torch.no_grad():
        before = network(picture).logit
        give_statistics_back(network, recipe, picture)
        torch.testing.assert_close(network(picture).logit, before, atol=1e-3, rtol=1e-3)
        stem = network.backbone.bn1
        assert stem.running_mean.abs().max() > 0
        # of the very pictures the statistics are from, a batch's own are the same
        network.train().dropout.eval()
        apart = (network(picture).logit - before).abs().max()
    assert apart < 0.05 * before.std() + 0.01


@pytest.mark.parametrize("members", [slice(0, 1), slice(1, 2), slice(0, 0)])
def test_other_recipes_are_refused(packaged, members):
    path, joint = packaged
    with pytest.raises(WeightsError):
        restore(path, joint.members[members])


def test_other_numbers_are_refused(packaged, tmp_path):
    """A graph with the right shapes that says something else: its last product is scaled."""
    import onnx

    path, joint = packaged
    model = onnx.load(str(path))
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    kept = [one for one in last.attribute if one.name != "alpha"]
    del last.attribute[:]
    last.attribute.extend([*kept, onnx.helper.make_attribute("alpha", 1.5)])
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match="other scores"):
        restore(tmp_path / "other.onnx", joint.members)


def test_eight_bits_and_junk_are_refused(packaged, tmp_path):
    import onnx

    from faceproof.training.convert.storage import store_eight_bits

    path, joint = packaged
    model = onnx.load(str(path))
    store_eight_bits(model)
    onnx.save(model, str(tmp_path / "eight.onnx"))
    (tmp_path / "junk.onnx").write_bytes(b"not a network")
    for name in ("eight.onnx", "junk.onnx", "missing.onnx"):
        with pytest.raises(WeightsError):
            restore(tmp_path / name, joint.members)


def test_a_run_goes_on_from_the_restored_checkpoint(packaged, shards, tmp_path, monkeypatch):
    path, joint = packaged
    opened, store = [], FaceStore.__init__
    monkeypatch.setattr(FaceStore, "__init__", lambda self, *given: opened.append(given) or store(self, *given))
    written = write_restored(path, _named(joint.members), tmp_path / "out", data=shards)
    assert len(opened) == 1, "the shards are read once for all recipes"
    assert [one.name for one in written] == ["wide.pt", "narrow.pt"]
    again = load_committee(written)
    picture = _picture(joint.recipe.input.size)
    with torch.no_grad():
        np.testing.assert_allclose(again.network(picture).logit, joint.network(picture).logit, atol=1e-3)


def _named(recipes):
    return [r.model_copy(update={"name": name}) for r, name in zip(recipes, ("wide", "narrow"), strict=True)]


def test_the_command_writes_a_checkpoint_or_says_what_does_not_fit(tmp_path):
    start = write_untrained(tmp_path / "start.pt", 1)
    export_onnx(load_committee([start]).network, TINY["input.size"], tmp_path / "one.onnx", half=False)
    changes = [part for key, value in TINY.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    arguments = ["train", "restore", str(tmp_path / "one.onnx"), "--recipe", "faceproof-small", "--out", str(tmp_path)]
    wrong = CliRunner().invoke(app, [*arguments, *changes, "--set", "network.high_pass=false"])
    assert isinstance(wrong.exception, WeightsError) or "is due" in wrong.output
    assert not (tmp_path / "faceproof-small.pt").exists()
    done = CliRunner().invoke(app, [*arguments, *changes])
    assert done.exit_code == 0, done.output
    for key, value in checkpoints.load(tmp_path / "faceproof-small.pt")["network"].items():
        assert value.shape == checkpoints.load(start)["network"][key].shape
