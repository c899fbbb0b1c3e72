"""A spec written as TOML reads back equal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.detectors import catalog
from faceproof.detectors.spec import Golden, Method, Weights, parse_spec, read_spec
from faceproof.detectors.spec_text import spec_to_toml

SPECS = sorted((Path(catalog.__file__).parent / "specs").glob("*.toml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_shipped_spec_survives(path: Path) -> None:
    spec = read_spec(path)
    assert parse_spec(spec_to_toml(spec)) == spec


@settings(max_examples=60, deadline=None)
@given(
    summary=st.text(max_size=60).filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)),
    threshold=st.floats(0, 1),
    logit=st.floats(-50, 50),
    size=st.integers(1, 2**40),
    knobs=st.dictionaries(st.from_regex(r"\A[a-z_]{1,12}\Z"), st.integers(0, 99) | st.floats(0, 1), max_size=3),
)
def test_any_text_and_number_survives(summary, threshold, logit, size, knobs) -> None:
    spec = read_spec(SPECS[0])
    spec = spec.model_copy(
        update={
            "summary": summary,
            "weights": Weights(file="a.onnx", sha256="0" * 64, size=size),
            "verdict": spec.verdict.model_copy(update={"threshold": threshold, "band": (0.0, 1.0)}),
            "golden": (Golden(asset="pattern:1", logit=logit), Golden(asset='a"b.png', logit=-logit, tolerance=0.5)),
            "aggregate": spec.aggregate.model_copy(update={"track": Method(method="topk", k=5)}),
            "architecture_settings": knobs,
        }
    )
    assert parse_spec(spec_to_toml(spec)) == spec
