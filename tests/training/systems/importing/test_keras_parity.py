"""A network built and saved by the real Keras (on its torch backend) gives the same answers once imported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from faceproof.detectors import catalog  # noqa: E402
from faceproof.detectors.detector import load_detector  # noqa: E402
from faceproof.errors import WeightsError  # noqa: E402
from faceproof.faces.crops import batch  # noqa: E402
from faceproof.training.convert.onnx import random_crops  # noqa: E402
from faceproof.training.importing.install import import_checkpoint, read_network  # noqa: E402

SIDE = 64
SMALL = {"encoder": "tf_efficientnet_b0", "image_size": SIDE}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))


def _randomise(model: Any, side: int = SIDE) -> None:
    """Random weights as :func:`faceproof.training.systems.stand_in.stand_in_weights` gives them, in Keras.

    The same every time, and prepared without dropout, whose random state is the process's. Under other weights of this
    kind the same network in fp32 and fp64 differs by .4 in its logits, so that two correct engines may too.
    """
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False):
        values = []
        for variable in layer.weights if not hasattr(layer, "layers") else ():
            name, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
            if name in ("moving_variance", "variance"):
                values.append(rng.uniform(0.5, 1.5, shape))
            elif name == "gamma":
                values.append(rng.uniform(0.8, 1.2, shape))
            elif name == "kernel":
                fan_in = np.prod(shape[:2]) if shape[-1] == 1 and len(shape) == 4 else np.prod(shape[:-1])
                values.append(rng.normal(0, fan_in**-0.5, shape))
            elif name == "count":
                values.append(np.zeros(shape))
            elif name == "beta":
                values.append(rng.uniform(0.5, 1.5, shape))  # where Swish is almost straight
            else:
                values.append(rng.uniform(-0.2, 0.2, shape))
        if values:
            layer.set_weights(values)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.call = _settling(layer)
    recipe = catalog.find_spec("efficientnet-b4-keras").spec.input.model_copy(update={"size": side})
    crops = batch(random_crops(8, seed=9), recipe)
    model(crops.transpose(0, 2, 3, 1), training=False)  # neither dropout nor its random state
    for layer in norms:
        del layer.call


def _settling(layer: Any) -> Callable[..., Any]:
    """``layer.call`` that first takes its statistics from what it is given."""
    original = layer.call

    def call(x: Any, **options: Any) -> Any:
        mean, variance = keras.ops.moments(x, axes=list(range(len(x.shape) - 1)))
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(keras.ops.maximum(variance, keras.ops.mean(variance) / 2))
        return original(x, **options)

    return call


def _model(*, nested: bool, imagenet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The document's model on B0: base frozen, GAP, BN, Dense 512, BN, Dropout, Dense 1."""
    keras.backend.clear_session()
    kind = keras.applications.EfficientNetB0
    base = kind(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    if imagenet:
        # Keras adds its third scaling layer only around its own weights; give it ours in their place.
        _randomise(base)
        base.save_weights(tmp_path / "b0.weights.h5")
        module = __import__("keras.src.applications.efficientnet", fromlist=["file_utils"])
        monkeypatch.setattr(module.file_utils, "get_file", lambda *a, **k: str(tmp_path / "b0.weights.h5"))
        keras.backend.clear_session()
        base = kind(include_top=False, weights="imagenet", input_shape=(SIDE, SIDE, 3))
    base.trainable = False
    if nested:
        inputs = keras.layers.Input((SIDE, SIDE, 3))
        x = base(inputs, training=False)
    else:
        inputs, x = base.input, base.output
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(512, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(optimizer="adam", loss=keras.losses.BinaryFocalCrossentropy(gamma=2.0))
    _randomise(model)
    return model


@pytest.mark.parametrize(("nested", "imagenet", "suffix"), [(False, True, ".keras"), (True, False, ".h5")])
def test_keras_and_its_import_agree(
    nested: bool, imagenet: bool, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(nested=nested, imagenet=imagenet, tmp_path=tmp_path, monkeypatch=monkeypatch)
    path = tmp_path / f"final_model{suffix}"
    model.save(path)
    network = read_network(path, "efficientnet-b4-keras", SMALL)

    recipe = catalog.find_spec("efficientnet-b4-keras").spec.input.model_copy(update={"size": SIDE})
    values = batch(random_crops(6), recipe)
    assert values.max() > 200, "Keras normalises inside: the input stays 0-255"
    real = keras.ops.convert_to_numpy(model(values.transpose(0, 2, 3, 1), training=False))[:, 0]
    with torch.no_grad():
        logit, heat = network(torch.from_numpy(values))
    mine = torch.sigmoid(logit).numpy()
    assert real.std() > 0.05, "the comparison needs answers that differ"
    np.testing.assert_allclose(mine, real, atol=1e-4)
    # The output says real, the heatmap shows fake.
    torch.testing.assert_close(torch.logit(heat).mean((1, 2)), -logit, atol=1e-3, rtol=1e-3)


def test_an_imported_keras_model_scores_fake_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(nested=False, imagenet=True, tmp_path=tmp_path, monkeypatch=monkeypatch)
    model.save(tmp_path / "final_model.keras")
    import_checkpoint(tmp_path / "final_model.keras", as_detector="efficientnet-b4-keras", settings=SMALL, crops=8)
    crops = random_crops(3)
    scores = load_detector("efficientnet-b4-keras", precision="fp32").score(crops)
    recipe = catalog.find_spec("efficientnet-b4-keras").spec.input
    real = keras.ops.convert_to_numpy(model(batch(crops, recipe).transpose(0, 2, 3, 1), training=False))[:, 0]
    np.testing.assert_allclose(scores, 1 - real, atol=1e-4)


def test_keras_models_that_are_not_the_documents_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(nested=False, imagenet=False, tmp_path=tmp_path, monkeypatch=monkeypatch)
    model.save(tmp_path / "m.keras")
    with pytest.raises(WeightsError, match=f"takes pictures of {SIDE} px"):
        read_network(tmp_path / "m.keras", "efficientnet-b4-keras", {"encoder": "tf_efficientnet_b0"})
    with pytest.raises(WeightsError, match="is a Keras file"):
        read_network(tmp_path / "m.keras", "efficientnet-b7-dfdc")
    plain = keras.Model(model.input, keras.layers.Dense(1, activation="sigmoid")(model.layers[-6].output))
    plain.save(tmp_path / "plain.keras")
    with pytest.raises(WeightsError, match=r"the head of plain\.keras is GlobalAveragePooling2D – Dense 1 sigmoid"):
        read_network(tmp_path / "plain.keras", "efficientnet-b4-keras", SMALL)


@pytest.mark.slow
def test_the_documents_own_size(tmp_path: Path) -> None:
    """B4 at 380 px with Keras's own counts, saved and imported whole."""
    keras.backend.clear_session()
    base = keras.applications.EfficientNetB4(include_top=False, weights=None, input_shape=(380, 380, 3))
    base.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(512, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(base.input, keras.layers.Dense(1, activation="sigmoid")(x))
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 923_137
    frozen = [v for v in model.non_trainable_variables if "seed" not in v.path]
    assert sum(int(np.prod(v.shape)) for v in frozen) == 17_678_431
    _randomise(model, side=380)
    model.save(tmp_path / "b4.keras")
    network = read_network(tmp_path / "b4.keras", "efficientnet-b4-keras")
    values = batch(random_crops(2), catalog.find_spec("efficientnet-b4-keras").spec.input)
    with torch.no_grad():
        mine = torch.sigmoid(network(torch.from_numpy(values))[0]).numpy()
    real = keras.ops.convert_to_numpy(model(values.transpose(0, 2, 3, 1), training=False))[:, 0]
    np.testing.assert_allclose(mine, real, atol=1e-4)
