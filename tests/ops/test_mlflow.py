"""The same versions in a real MLflow server on SQLite."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceproof.detectors.catalog import find_spec, user_models
from faceproof.errors import OptionError, OutputError
from faceproof.ops.mlflow_registry import MlflowRegistry
from faceproof.ops.packages import pack
from faceproof.ops.registry import pin, promote, rollback

from ..servers import free_port, running, server_bin
from ..toy_detector import write_toy_detector


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        server_bin("mlflow") / "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        folder / "artifacts",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with running(command, f"{url}/health", log=folder / "log"):
        yield url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path / "home"


def package(home: Path, out: Path, version: str) -> Path:
    folder = write_toy_detector(home)
    spec = folder / "spec.toml"
    spec.write_text(spec.read_text().replace('version = "1.0"', f'version = "{version}"'))
    pack(find_spec("toy"), out)
    shutil.rmtree(folder)
    return out


def test_publish_promote_pin_roll_back(server: str, home: Path, tmp_path: Path) -> None:
    registry = MlflowRegistry(server)
    packages = [package(home, tmp_path / version, version) for version in ("1.0", "2.0")]
    for one in packages:
        registry.publish(one)
    with pytest.raises(OptionError, match="already"):
        registry.publish(packages[0])
    promote(registry, "toy", "1.0", by="ann")
    promote(registry, "toy", "2.0")
    assert find_spec("toy").spec.version == "2.0"
    assert (user_models() / "toy" / "toy.onnx").is_file()
    pin(registry, "toy", "2.0")
    with pytest.raises(OptionError, match="pinned"):
        promote(registry, "toy", "1.0")
    assert rollback(registry, "toy").production == "1.0"
    assert find_spec("toy").spec.version == "1.0"

    from mlflow import MlflowClient

    # What MLflow's own users see: the alias points at the version in use.
    client = MlflowClient(tracking_uri=server, registry_uri=server)
    assert client.get_model_version_by_alias("toy", "production").tags["faceproof.version"] == "1.0"
    assert MlflowRegistry(server).standing("toy").versions == ["1.0", "2.0"]
    assert registry.names() == ["toy"]
    with pytest.raises(OptionError):
        registry.standing("nobody")


def test_a_server_that_is_away_is_said_and_what_is_installed_stays(home: Path, tmp_path: Path) -> None:
    write_toy_detector(home)
    away = MlflowRegistry(f"http://127.0.0.1:{free_port()}", timeout=1, retries=0)
    with pytest.raises(OutputError, match="scans go on") as caught:
        away.standing("toy")
    assert "127.0.0.1" in caught.value.message
    assert find_spec("toy").has_weights
