import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.detectors.calibration import calibrate, with_prior
from faceproof.detectors.spec import Calibration
from faceproof.errors import OptionError

calibrations = st.one_of(
    st.just(Calibration()),
    st.builds(Calibration, method=st.just("temperature"), a=st.floats(0.05, 20)),
    st.builds(Calibration, method=st.just("platt"), a=st.floats(0.05, 20), b=st.floats(-5, 5)),
    st.just(Calibration(method="isotonic", points=((0.0, 0.1), (0.5, 0.4), (1.0, 0.95)))),
)


@given(calibration=calibrations, p=st.floats(0, 1), q=st.floats(0, 1))
def test_calibration_gives_probabilities_and_never_swaps_two_scores(
    calibration: Calibration, p: float, q: float
) -> None:
    low, high = sorted((p, q))
    a, b = calibrate(low, calibration), calibrate(high, calibration)
    assert 0 <= a <= b <= 1


def test_temperature_and_platt_by_hand() -> None:
    # logit(.8) = ln 4; halved it is ln 2, whose sigmoid is 2/3.
    assert calibrate(0.8, Calibration(method="temperature", a=2)) == pytest.approx(2 / 3)
    assert calibrate(0.8, Calibration(method="platt", a=0.5)) == pytest.approx(2 / 3)
    assert calibrate(0.75, Calibration(method="isotonic", points=((0.5, 0.2), (1.0, 0.8)))) == pytest.approx(0.5)


@given(p=st.floats(0.001, 0.999), prior=st.floats(0.001, 0.999))
def test_the_posterior_is_bayes_rule(p: float, prior: float) -> None:
    fake, real = p * prior, (1 - p) * (1 - prior)
    assert with_prior(p, prior) == pytest.approx(fake / (fake + real), abs=1e-9)


@pytest.mark.parametrize("prior", [0, 1, -0.1, 1.5])
def test_a_certain_prior_is_refused(prior: float) -> None:
    with pytest.raises(OptionError):
        with_prior(0.5, prior)
