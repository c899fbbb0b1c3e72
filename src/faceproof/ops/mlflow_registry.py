"""Versions in an MLflow model registry, for teams that have one. Needs ``faceproof[mlflow]``.

A detector is a registered model; each of our versions is one of MLflow's numbered ones, tagged ``faceproof.version``, its
package the artifacts of a run. The alias ``production`` points at what is in use; the standing (pin and history) is a tag.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from faceproof.errors import FaceproofError, MissingExtraError, OptionError, OutputError
from faceproof.ops.packages import Verified, verify
from faceproof.ops.registry import Standing

_STANDING, _VERSION, _FOLDER = "faceproof.standing", "faceproof.version", "package"


class MlflowRegistry:
    """A registry at ``uri``, for instance ``http://mlflow.example:5000``.

    ``timeout`` (seconds) and ``retries`` bound how long an unreachable server is waited for. Raises
    :class:`MissingExtraError` without MLflow; its methods raise :class:`OutputError` when the server does not answer.
    """

    def __init__(
        self, uri: str, *, trusted: Iterable[str] | None = None, timeout: float = 10.0, retries: int = 1
    ) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, round(timeout))))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
        try:
            from mlflow import MlflowClient  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise MissingExtraError.of("The MLflow registry", "mlflow") from None
        self.uri = uri
        self._trusted = None if trusted is None else set(trusted)
        self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """MLflow's errors as ours."""
        try:
            yield
        except FaceproofError:
            raise
        except Exception as error:  # MLflow lets its transport's errors through as they are
            raise OutputError(
                f"the MLflow server at {self.uri} did not do it: {str(error).splitlines()[0][:200]}",
                remedy="Check its address and that it runs; scans go on with what is installed.",
            ) from error

    def publish(self, package: Path) -> Verified:
        verified = verify(package, trusted=self._trusted)
        name, version = verified.record.name, verified.record.version
        with self._asking():
            model = self._model(name)
            if model is None:
                self._client.create_registered_model(name)
            elif self._number(name, version) is not None:
                raise OptionError(f"{name} {version} is published already", remedy="Give the new one another version.")
            experiment = self._client.get_experiment_by_name("faceproof")
            place = experiment.experiment_id if experiment else self._client.create_experiment("faceproof")
            run = self._client.create_run(place, run_name=f"{name} {version}")
            self._client.log_artifacts(run.info.run_id, str(package), _FOLDER)
            self._client.set_terminated(run.info.run_id)
            self._client.create_model_version(
                name,
                f"{run.info.artifact_uri}/{_FOLDER}",
                run.info.run_id,
                tags={_VERSION: version, "faceproof.signer": verified.signer or ""},
            )
            standing = self._read(name)
            standing.versions.append(version)
            self.record(standing)
        return verified

    def fetch(self, name: str, version: str, out: Path) -> Path:
        with self._asking():
            number = self._number(name, version)
            if number is None:
                raise OptionError(f"{name} {version} is not in the registry")
            kept = self._client.get_model_version(name, number)
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
            partial.mkdir()
            self._client.download_artifacts(kept.run_id, _FOLDER, str(partial))
            (partial / _FOLDER).rename(out)
            partial.rmdir()
        verify(out, trusted=self._trusted, golden=False)
        return out

    def standing(self, name: str) -> Standing:
        with self._asking():
            if self._model(name) is None:
                raise OptionError(
                    f"{name} is not in the registry", remedy="Publish it with `faceproof models publish`."
                )
            return self._read(name)

    def names(self) -> list[str]:
        """The detectors kept there."""
        with self._asking():
            return sorted(model.name for model in self._client.search_registered_models() if _STANDING in model.tags)

    def record(self, standing: Standing) -> None:
        with self._asking():
            self._client.set_registered_model_tag(standing.name, _STANDING, standing.model_dump_json())
            if standing.production is not None:
                number = self._number(standing.name, standing.production)
                self._client.set_registered_model_alias(standing.name, "production", number)

    def _model(self, name: str) -> Any:
        found = self._client.search_registered_models(f"name = '{name}'")
        return found[0] if found else None

    def _number(self, name: str, version: str) -> str | None:
        """MLflow's number of our version."""
        kept = self._client.search_model_versions(f"name = '{name}'")
        return next((str(one.version) for one in kept if one.tags.get(_VERSION) == version), None)

    def _read(self, name: str) -> Standing:
        model = self._client.get_registered_model(name)
        try:
            return Standing.model_validate_json(model.tags.get(_STANDING, "") or Standing(name=name).model_dump_json())
        except ValidationError as error:
            raise OptionError(f"the tag {_STANDING} of {name} cannot be read: {error}") from error
