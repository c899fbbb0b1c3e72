"""What ONNX Runtime is asked for. No GPU is needed: a stand-in for its session notes what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faceproof.errors import DeviceError
from faceproof.runtime.onnx import PROVIDERS, OnnxNetwork
from tests.toy_detector import write_toy_detector

ort = pytest.importorskip("onnxruntime")


class Session:
    """Notes what it is made with, and starts every provider."""

    made: dict[str, Any]

    def __init__(self, path: str, options: Any, **given: Any) -> None:
        type(self).made = given

    def get_providers(self) -> list[str]:
        return [*self.made["providers"], "CPUExecutionProvider"]

    def get_outputs(self) -> list[Any]:
        return [type("Place", (), {"name": "logit"})]

    get_inputs = get_outputs


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    return Session


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_cuda_is_told_not_to_compute_in_tf32_where_fp32_is_said(session: type[Session], precision: Any) -> None:
    network = OnnxNetwork(Path("net.onnx"), device="cuda", precision=precision)
    assert network.precision == "fp32"
    assert session.made == {"providers": ["CUDAExecutionProvider"], "provider_options": [{"use_tf32": "0"}]}


@pytest.mark.parametrize("device", ["auto", "cpu", "coreml", "directml"])
def test_others_get_no_option_they_do_not_know(session: type[Session], device: str) -> None:
    OnnxNetwork(Path("net.onnx"), device=device)
    assert session.made["provider_options"] == [{}]


@pytest.mark.parametrize("said", [None, "1"])
def test_tensorrt_is_refused_unless_tf32_is_switched_off(
    session: type[Session], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", said)
    with pytest.raises(DeviceError, match="TF32") as refused:
        OnnxNetwork(Path("net.onnx"), device="tensorrt")
    assert "NVIDIA_TF32_OVERRIDE=0" in refused.value.remedy
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert OnnxNetwork(Path("net.onnx"), device="tensorrt").precision == "fp32"


@pytest.mark.gpu
def test_the_cuda_provider_took_it(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime was built without cuda")
    write_toy_detector(tmp_path)
    (file,) = tmp_path.rglob("*.onnx")
    network = OnnxNetwork(file, device="cuda")
    assert network._session.get_provider_options()["CUDAExecutionProvider"]["use_tf32"] == "0"
