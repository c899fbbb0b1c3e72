"""What the tests of the documented networks share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from faceproof.training.systems.stand_in import stand_in_weights


@pytest.fixture(scope="session")
def enliven() -> Callable[..., nn.Module]:
    """Random weights whose answers differ from picture to picture; without them, two networks always agree."""
    return stand_in_weights
