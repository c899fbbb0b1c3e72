"""Which version of a detector is in use, which was before, and how to go back.

A registry keeps packages and a history; the version in production is what ``models`` in the user's model folder holds, so
that every scan uses it and every report names it. :class:`FolderRegistry` needs nothing but a folder (or a share);
:class:`faceproof.ops.mlflow_registry.MlflowRegistry` keeps the same things in MLflow.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceproof.detectors.catalog import home, user_models
from faceproof.errors import OptionError, OutputError
from faceproof.ops.packages import Verified, verify
from faceproof.ops.promotion import Gate
from faceproof.result_files import write_whole


class Step(BaseModel):
    """One change of what is in production. ``time`` is seconds since 1970; ``gate`` what the promotion gate said."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["promote", "rollback"]
    version: str
    before: str | None
    by: str = ""
    time: float = 0.0
    gate: Gate | None = None


class Standing(BaseModel):
    """One detector in a registry. ``pinned`` is a version that promotions may not replace."""

    model_config = ConfigDict(extra="forbid")

    name: str
    versions: list[str] = Field(default_factory=list)
    production: str | None = None
    pinned: str | None = None
    history: list[Step] = Field(default_factory=list)


class Registry(Protocol):
    """Where versions are kept. All raise :class:`OptionError` for a name or version that is not there."""

    def publish(self, package: Path) -> Verified:
        """Keep a verified package under its name and version. A version is published once and never replaced."""
        ...

    def fetch(self, name: str, version: str, out: Path) -> Path:
        """Copy a kept package into the new folder ``out``."""
        ...

    def standing(self, name: str) -> Standing: ...

    def record(self, standing: Standing) -> None:
        """Keep a changed standing."""
        ...


class FolderRegistry:
    """A registry in a folder: ``NAME/VERSION/`` packages and ``NAME/standing.json``.

    ``trusted``: fingerprints of keys; with any given, only packages signed by one of them are taken.
    """

    def __init__(self, folder: Path | None = None, *, trusted: Iterable[str] | None = None) -> None:
        self.folder = folder or home() / "registry"
        self._trusted = None if trusted is None else set(trusted)

    def publish(self, package: Path) -> Verified:
        verified = verify(package, trusted=self._trusted)
        record = verified.record
        target = self._place(record.name, record.version)
        if target.exists():
            raise OptionError(
                f"{record.name} {record.version} is published already", remedy="Give the new one another version."
            )
        _copy(package, target)
        standing = self._read(record.name)
        standing.versions.append(record.version)
        self.record(standing)
        return verified

    def fetch(self, name: str, version: str, out: Path) -> Path:
        source = self._place(name, version)
        if not source.is_dir():
            known = ", ".join(self._read(name).versions) or "none"
            raise OptionError(f"{name} {version} is not in the registry", remedy=f"Published are: {known}.")
        verify(source, trusted=self._trusted, golden=False)
        _copy(source, out)
        return out

    def standing(self, name: str) -> Standing:
        found = self._read(name)
        if not found.versions:
            raise OptionError(f"{name} is not in the registry", remedy="Publish it with `faceproof models publish`.")
        return found

    def names(self) -> list[str]:
        """The detectors kept here."""
        return sorted(path.parent.name for path in self.folder.glob("*/standing.json"))

    def record(self, standing: Standing) -> None:
        path = self.folder / standing.name / "standing.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        write_whole(path, standing.model_dump_json(indent=2) + "\n")

    def _place(self, name: str, version: str) -> Path:
        if any(Path(part).name != part or part in ("", ".", "..") for part in (name, version)):
            raise OptionError(f"{name!r} {version!r} cannot be a name and a version")
        return self.folder / name / version

    def _read(self, name: str) -> Standing:
        path = self._place(name, "standing.json")
        try:
            return Standing.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Standing(name=name)
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise OptionError(f"{path} cannot be read: {error}", remedy="Restore it from a copy.") from error


def promote(
    registry: Registry, name: str, version: str, *, gate: Gate | None = None, by: str = "", models: Path | None = None
) -> Standing:
    """Put a published version into production, on this machine and in the registry.

    ``gate`` is the verdict on the candidate against the incumbent; one that refuses stops the promotion. Raises
    :class:`OptionError` for that, for a pinned detector and for a version that is not there.
    """
    standing = registry.standing(name)
    if version not in standing.versions:
        raise OptionError(
            f"{name} {version} is not in the registry", remedy=f"Published are: {', '.join(standing.versions)}."
        )
    if standing.pinned is not None and version != standing.pinned:
        raise OptionError(
            f"{name} is pinned to {standing.pinned}", remedy=f"Lift it with `faceproof models pin {name} --off`."
        )
    if gate is not None and not gate.passed:
        raise OptionError(f"{name} {version} is not promoted: {gate.reason}", remedy="Improve it, or measure on more.")
    install(registry, name, version, models=models)
    step = Step(action="promote", version=version, before=standing.production, by=by, time=time.time(), gate=gate)
    standing = standing.model_copy(update={"production": version, "history": [*standing.history, step]})
    registry.record(standing)
    return standing


def rollback(registry: Registry, name: str, *, by: str = "", models: Path | None = None) -> Standing:
    """Return to the version that was in production before the present one; a second time, to the one before that.

    A pin is no obstacle: going back is how harm is stopped. Raises :class:`OptionError` when there is none.
    """
    standing = registry.standing(name)
    before = _came_from(standing)
    if before is None:
        raise OptionError(f"nothing was in production before {name} {standing.production or ''}".strip())
    install(registry, name, before, models=models)
    step = Step(action="rollback", version=before, before=standing.production, by=by, time=time.time())
    standing = standing.model_copy(update={"production": before, "history": [*standing.history, step]})
    registry.record(standing)
    return standing


def _came_from(standing: Standing) -> str | None:
    """Walk the history as a stack: a promotion pushes, a rollback pops."""
    stack: list[str] = []
    for step in standing.history:
        if step.action == "promote":
            stack.append(step.version)
        elif stack:
            stack.pop()
    return stack[-2] if len(stack) > 1 else None


def pin(registry: Registry, name: str, version: str | None) -> Standing:
    """Forbid promotions of any other version, or lift that with None. Raises :class:`OptionError`."""
    standing = registry.standing(name)
    if version is not None and version not in standing.versions:
        raise OptionError(f"{name} {version} is not in the registry")
    standing = standing.model_copy(update={"pinned": version})
    registry.record(standing)
    return standing


def install(registry: Registry, name: str, version: str, *, models: Path | None = None) -> Path:
    """Make a kept version the installed one: ``models/NAME`` changes from one whole package to another."""
    folder = models or user_models()
    fresh, old = folder / f".{name}.{os.getpid()}.new", folder / f".{name}.{os.getpid()}.old"
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    registry.fetch(name, version, fresh)
    verify(fresh)
    target = folder / name
    try:
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise OutputError(f"cannot install {name} {version}: {error.strerror}") from error
    shutil.rmtree(old, ignore_errors=True)
    return target


def _copy(source: Path, target: Path) -> None:
    """Copy a package so that the target is either not there or whole."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
