import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.detector import Detector, load_detector, p_fake
from faceproof.detectors.spec import Output, parse_spec
from faceproof.errors import NetworkError, OptionError, UnknownDetectorError, WeightsError
from faceproof.runtime import FakeNetwork

from .test_spec import MINIMAL

SPEC = parse_spec(MINIMAL)
logits = st.lists(st.floats(-50, 50), min_size=1, max_size=9)


@given(values=logits)
def test_polarity_turns_the_same_logits_around(values: list[float]) -> None:
    high = p_fake(values, Output(fake_is="high"))
    low = p_fake(values, Output(fake_is="low"))
    np.testing.assert_allclose(high + low, 1, atol=1e-6)
    assert high.dtype == np.float32


@given(values=logits)
def test_two_classes_say_the_same_as_their_difference(values: list[float]) -> None:
    both = np.stack([np.zeros(len(values)), np.asarray(values)], axis=1)
    np.testing.assert_allclose(
        p_fake(both, Output(fake_is="high", activation="softmax")), p_fake(values, Output(fake_is="high")), atol=1e-6
    )
    np.testing.assert_allclose(
        p_fake(both[:, ::-1], Output(fake_is="high", activation="softmax", fake_index=0)),
        p_fake(values, Output(fake_is="high")),
        atol=1e-6,
    )


def test_a_network_that_answers_nan_has_no_opinion() -> None:
    with pytest.raises(NetworkError, match="not finite"):
        p_fake([0.1, float("nan")], Output(fake_is="high"))


def test_a_network_with_the_wrong_number_of_answers_is_refused() -> None:
    with pytest.raises(NetworkError, match="2 numbers"):
        p_fake([[0.1, 0.2]], Output(fake_is="high"))


def test_scores_follow_crops_of_any_size_in_order() -> None:
    network = FakeNetwork()
    detector = Detector(SPEC, network)
    crops = [np.full((20 + i, 30, 3), 5 * i, np.uint8) for i in range(19)]
    scores = detector.score(crops)
    assert scores.shape == (19,)
    assert np.all(np.diff(scores) > 0)
    assert sum(network.batches) == 19
    assert max(network.batches) <= detector.batch_size


def test_no_crops_no_scores() -> None:
    assert Detector(SPEC, FakeNetwork()).score([]).shape == (0,)


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        "crop.png",
    ],
)
def test_what_is_no_crop_is_refused(crop: object) -> None:
    with pytest.raises(OptionError):
        Detector(SPEC, FakeNetwork()).score([crop])  # type: ignore[list-item]


def test_heat_comes_with_the_scores() -> None:
    spec = SPEC.model_copy(update={"output": Output(fake_is="high", heatmap="heatmap")})
    scores, heat = Detector(spec, FakeNetwork()).score_with_heat([np.full((9, 9, 3), 200, np.uint8)] * 3)
    assert heat is not None
    assert heat.shape[0] == len(scores) == 3
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_a_spec_that_names_another_output_is_refused() -> None:
    spec = SPEC.model_copy(update={"output": Output(fake_is="high", logit="fakeness")})
    with pytest.raises(NetworkError, match="fakeness"):
        Detector(spec, FakeNetwork())


def test_an_untrained_detector_is_never_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path))
    folder = tmp_path / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "spec.toml").write_text(MINIMAL)
    with pytest.raises(WeightsError):
        load_detector("toy")
    with pytest.raises(UnknownDetectorError):
        load_detector("toys")
