"""What `import faceproof` costs, and what it offers."""

import subprocess
import sys

import pytest

import faceproof

HEAVY = ["torch", "timm", "fastapi", "celery", "cv2", "av", "onnxruntime", "openvino", "pydantic", "numpy"]


def test_importing_the_package_is_light() -> None:
    code = f"import sys, faceproof; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_scanning_never_needs_torch(astronaut_png) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from faceproof import scan, list_detectors\n"
        "import faceproof.batch, faceproof.result_files, faceproof.diagnosis, faceproof.cli\n"
        "print('torch' in [m for m in sys.modules if sys.modules[m]])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("name", faceproof.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(faceproof, name) is not None


def test_scan_is_a_function_whatever_was_imported_before() -> None:
    code = "import faceproof.batch, faceproof; print(callable(faceproof.scan))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        faceproof.scam  # noqa: B018
