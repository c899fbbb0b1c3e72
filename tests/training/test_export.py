import json

import numpy as np
import pytest
import torch
from tests.training.test_loop import TINY

from faceproof.detectors.detector import load_detector
from faceproof.detectors.installing import add_detector
from faceproof.errors import TrainingError, WeightsError
from faceproof.training import card, load_recipe, package, train
from faceproof.training.export import check_parity, export_onnx, fit_platt
from faceproof.training.export import load_network as load_trained
from faceproof.training.networks import FaceNetwork, build_network, load_imagenet

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return FaceNetwork("test_efficientnet").eval()


@pytest.mark.parametrize("half", [True, False])
def test_the_file_says_what_torch_says(network, tmp_path, half):
    export_onnx(network, 64, tmp_path / "net.onnx", half=half)
    found = {parity.runtime: parity for parity in check_parity(network, tmp_path / "net.onnx", 64)}
    assert "onnxruntime" in found
    assert all(parity.logit < (2e-2 if half else 1e-3) for parity in found.values())
    assert all(parity.heatmap < (2e-2 if half else 1e-3) for parity in found.values())


def test_the_file_keeps_the_contract(network, tmp_path):
    export_onnx(network, 64, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    assert [i.name for i in session.get_inputs()] == ["input"]
    for count in (1, 5):
        logit, heatmap = session.run(["logit", "heatmap"], {"input": np.zeros((count, 3, 64, 64), np.float32)})
        assert logit.shape == (count,)
        assert logit.dtype == heatmap.dtype == np.float32
        assert heatmap.shape == (count, 8, 8)
        assert 0 <= heatmap.min() <= heatmap.max() <= 1


def test_a_file_of_another_network_is_noticed(network, tmp_path):
    export_onnx(network, 64, tmp_path / "net.onnx")
    torch.manual_seed(1)
    with pytest.raises(TrainingError, match="differs from torch"):
        check_parity(FaceNetwork("test_efficientnet").eval(), tmp_path / "net.onnx", 64, tolerance=1e-4)


def test_platt_scaling_recovers_what_was_hidden():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    # each class weighs half: the rarer one's share, which the intercept held, is taken out again
    even = -1 - np.log(labels.mean() / (1 - labels.mean()))
    assert fit_platt(logits, labels) == (pytest.approx(0.5, abs=0.05), pytest.approx(even, abs=0.08))
    few = np.r_[np.flatnonzero(labels)[:1000], np.flatnonzero(~labels)]
    assert fit_platt(logits[few], labels[few]) == (pytest.approx(0.5, abs=0.05), pytest.approx(even, abs=0.12))
    assert np.isfinite(fit_platt(np.array([-5.0, -4, 4, 5]), np.array([0, 0, 1, 1]))).all()
    with pytest.raises(TrainingError, match="both real and fake"):
        fit_platt(logits, np.ones(20_000))


def test_a_run_ends_in_a_package_that_can_be_installed(shards, tmp_path, monkeypatch):
    result = train(load_recipe("faceproof-small", TINY | {"run.epochs": 1}), shards, tmp_path / "run", quiet=True)
    made = package(result.best, shards, tmp_path / "package", pairs_to_score=20)
    facts = json.loads((tmp_path / "package/package.json").read_text())
    assert (facts["size"], facts["sha256"]) == (64, made.sha256)
    text = made.card.read_text()
    for expected in ("held-out pairs", "95 % interval", "drawn: ", "Pexels licence", made.sha256, "Limits"):
        assert expected in text
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    spec, _ = add_detector(tmp_path / "package", name="mine")
    assert (spec.input.size, spec.input.mean, spec.faces.margin.value) == (64, (0.5, 0.5, 0.5), 1.0)
    crops = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(2)]
    detector, (network, _, _) = load_detector("mine"), load_trained(result.best)
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    expected = network(batch).logit.detach().numpy()
    np.testing.assert_allclose(detector.logits(crops).reshape(-1), expected, atol=0.02)


def test_intervals_hold_the_value_and_narrow_with_more_groups():
    rng = np.random.default_rng(0)
    widths = []
    for count in (40, 400):
        labels = rng.integers(0, 2, count)
        found = card.bootstrap_auroc("x", labels, labels + rng.normal(0, 1, count), rounds=200)
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0]


def test_imagenet_weights_are_matched_by_shape_or_refused(network):
    state = {f"layer{i}.{k.rsplit('.', 1)[1]}": v for i, (k, v) in enumerate(network.backbone.state_dict().items())}
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    other = FaceNetwork("test_efficientnet")
    assert load_imagenet(other, state) == len(state)
    assert torch.equal(other.backbone.conv_stem.weight, network.backbone.conv_stem.weight)
    with pytest.raises(WeightsError):
        load_imagenet(other, dict(list(state.items())[:5]))
    first = next(iter(state))
    with pytest.raises(WeightsError, match="does not fit"):
        load_imagenet(other, state | {first: torch.zeros(1)})


def test_unknown_networks_and_weights_are_named(tmp_path):
    with pytest.raises(TrainingError, match="knows no network"):
        FaceNetwork("no_such_net")
    with pytest.raises(WeightsError, match="do not exist"):
        build_network(load_recipe("faceproof-small", TINY | {"network.init": str(tmp_path / "none.pt")}))
    with pytest.raises(TrainingError, match="No ImageNet weights are known"):
        build_network(load_recipe("faceproof-small", TINY | {"network.init": "imagenet"}))


@pytest.mark.parametrize("name", ["mobile-b4", "keras-b4", "two-class-b4"])
def test_documented_systems_give_one_trainable_logit(name):
    torch.manual_seed(0)
    recipe = load_recipe(name)
    system = build_network(recipe).train()
    scale = 255.0 if name == "keras-b4" else 1.0
    found = system(torch.rand(2, 3, 64, 64) * scale)
    assert found.logit.shape == (2,)
    found.logit.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in system.parameters())
