from __future__ import annotations

import pytest

from faceproof.errors import OptionError, UnknownDetectorError
from faceproof.service.detectors import Installed, open_detectors


def test_only_detectors_with_weights_are_offered_the_default_first() -> None:
    detectors = Installed()
    names = [spec.name for spec in detectors.specs()]
    assert names
    assert names[0] == detectors.default
    assert len(detectors.fingerprint(names[0])) == 64


def test_unknown_detectors_and_those_without_weights_are_refused() -> None:
    with pytest.raises(UnknownDetectorError, match="nobody"):
        Installed().fingerprint("nobody")


def test_a_loader_that_does_not_exist_is_named() -> None:
    with pytest.raises(OptionError, match="no_such_module"):
        open_detectors("no_such_module:Thing")
    assert open_detectors("fake_detectors:Fakes", "fake-other").default == "fake-other"
