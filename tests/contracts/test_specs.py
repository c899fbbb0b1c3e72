"""One test over every spec in the package: it parses, belongs together, and never scores without weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceproof.detectors import catalog
from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.detector import Detector, load_detector
from faceproof.errors import WeightsError
from faceproof.runtime import FakeNetwork

FOLDER = Path(catalog.__file__).parent / "specs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
DOCUMENTED = {
    "efficientnet-b7-dfdc",
    "efficientnet-b4-mobile",
    "efficientnet-b4-keras",
    "cross-efficient-vit",
    "efficientnet-b4-224",
}


@pytest.fixture(autouse=True)
def _no_user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))


@pytest.fixture(params=NAMES)
def installed(request: pytest.FixtureRequest) -> InstalledSpec:
    return catalog.find_spec(request.param)


def test_every_documented_system_has_its_own_and_the_documents_recipe() -> None:
    assert set(NAMES) >= DOCUMENTED
    profiles = {catalog.find_spec(name).spec.profile_of for name in NAMES}
    assert profiles >= DOCUMENTED


def test_a_spec_is_called_like_its_file(installed: InstalledSpec) -> None:
    assert installed.spec.name == installed.source.stem
    assert len(installed.spec.summary) <= 120
    if installed.spec.profile_of is not None:
        parent = catalog.find_spec(installed.spec.profile_of).spec
        assert parent.architecture == installed.spec.architecture
        assert parent.licence == installed.spec.licence
        assert parent.output == installed.spec.output, "the same network has the same outputs"


def test_no_spec_without_weights_scores(installed: InstalledSpec) -> None:
    if installed.has_weights:
        pytest.skip("has weights")
    with pytest.raises(WeightsError, match=r"faceproof (import|detectors pull)|Reinstall"):
        load_detector(installed.spec.name)


def test_the_recipe_fits_the_crops_it_is_given(installed: InstalledSpec) -> None:
    """Preparation and polarity work end to end for crops of any size, whatever the recipe."""
    spec = installed.spec
    wide = spec.output.activation == "softmax"
    if spec.output.activation == "none":
        network = FakeNetwork(lambda batch: np.full(len(batch), 0.25))
    else:
        network = FakeNetwork(lambda batch: np.full(len(batch), 2.0))
    if wide:
        network.run = lambda batch: {  # type: ignore[method-assign]
            "logit": np.tile(np.float32([0.0, 2.0]), (len(batch), 1)),
            "heatmap": np.zeros((len(batch), 7, 7), np.float32),
        }
    detector = Detector(spec, network)
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((20, 31), (300, 200), (380, 380))]
    scores, heat = detector.score_with_heat(crops)
    assert scores.shape == (3,)
    assert (heat is None) == (spec.output.heatmap is None)
    high = spec.output.fake_is == "high"
    assert np.all((scores > 0.5) == (high and spec.output.activation != "none")) or spec.output.activation == "none"


def test_documented_networks_can_be_imported(installed: InstalledSpec) -> None:
    if installed.spec.architecture is None or installed.spec.name.startswith("faceproof"):
        pytest.skip("Faceproof's own")
    systems = pytest.importorskip("faceproof.training.systems")
    layouts = pytest.importorskip("faceproof.training.importing.layouts")
    plan = systems.plan_of(installed.spec.architecture, installed.spec.architecture_settings)
    assert installed.spec.architecture in layouts.LAYOUTS
    assert installed.spec.input.size == plan.image_size
    classes = 2 if installed.spec.output.activation == "softmax" else 1
    if isinstance(plan, systems.Plan):
        assert len(plan.fake) == classes
        assert (plan.fake[-1] > 0) == (installed.spec.output.fake_is == "high")
