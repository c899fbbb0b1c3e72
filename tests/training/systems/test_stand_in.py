"""Stand-in weights answer differently to different pictures, the same every time, and not by rounding."""

from __future__ import annotations

import torch

from faceproof.faces.crops import batch
from faceproof.training.convert.onnx import random_crops
from faceproof.training.systems import build
from faceproof.training.systems.stand_in import stand_in_weights

SMALL = {"encoder": "tf_efficientnet_b0", "image_size": 64}


def test_stand_in_weights_are_alive_repeatable_and_do_not_amplify_rounding() -> None:
    from faceproof.detectors.catalog import find_spec

    recipe = find_spec("efficientnet-b7-dfdc").spec.input.model_copy(update={"size": 64})
    example, fresh = (torch.from_numpy(batch(random_crops(12, seed=seed), recipe)) for seed in (5, 6))
    network = stand_in_weights(build("efficientnet-b7-dfdc", SMALL), example)
    again = stand_in_weights(build("efficientnet-b7-dfdc", SMALL), example)
    with torch.no_grad():
        logit, heat = network(fresh)
        assert torch.equal(logit, again(fresh)[0])
        exact, _ = network.double()(fresh.double())
    assert logit.std() > 0.3
    assert logit.abs().max() < 30
    assert 0 < heat.mean() < 1
    assert (logit - exact).abs().max() < 1e-4, "the tolerance of an import would be used up by rounding alone"
