"""Putting a detector into the user's model folder: whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faceproof.detectors import catalog
from faceproof.detectors.detector import Detector
from faceproof.detectors.golden import require_the_same_network
from faceproof.detectors.spec import DetectorSpec, read_spec
from faceproof.detectors.spec_text import spec_to_toml
from faceproof.errors import OptionError, OutputError
from faceproof.runtime import load_network

Progress = Callable[[str], None]


def free_folder(name: str, replace: bool) -> Path:
    """Where a detector of that name would be installed.

    Raises :class:`OptionError` for a name that cannot be one, that the package needs, or that is taken unless ``replace``.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}", name):
        raise OptionError(
            f"{name!r} cannot be a detector's name", remedy="Use lower-case letters, digits, dots and dashes."
        )
    for installed in catalog.installed_specs():
        if installed.spec.name != name:
            continue
        if installed.origin == "package" and (installed.spec.weights.sha256 and installed.spec.profile_of is None):
            raise OptionError(f"{name} belongs to the package", remedy="Choose another --name.")
        if installed.origin == "user" and not replace:
            raise OptionError(
                f"a detector called {name} is installed already", remedy="Choose another --name, or add --replace."
            )
    return catalog.user_models() / name


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder that becomes ``folder`` when all went well and vanishes otherwise; what was there gives way last.

    Raises :class:`OutputError` when the user's folder cannot be written to.
    """
    staging = catalog.home() / "staging" / f"{folder.name}.{os.getpid()}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write to {catalog.home()}: {error.strerror}") from error
    try:
        yield staging
        _move(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(staging: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = staging.with_name(staging.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        staging.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def add_detector(source: Path, *, name: str | None = None, replace: bool = False) -> tuple[DetectorSpec, Path]:
    """Install a folder that holds ``spec.toml`` and its weights, such as `faceproof train` leaves; returns spec and place.

    The weights must be those that the spec names and give its known answers. Raises :class:`SpecError`,
    :class:`WeightsError` or :class:`OptionError`; then nothing is installed.
    """
    record = source / "spec.toml" if source.is_dir() else source
    if not record.is_file():
        raise OptionError(f"{source} holds no spec.toml", remedy="Name the folder `package` of a training run.")
    spec = read_spec(record)
    given = catalog.InstalledSpec(spec, record.parent, record, "user")
    path = catalog.weights_path(given)
    require_the_same_network(Detector(spec, load_network(path)), record.parent, lambda: load_network(path))
    spec = spec.model_copy(update={"name": name or spec.name})
    folder = free_folder(spec.name, replace)
    weights = list(spec.weights.parts) or [str(spec.weights.file)]
    # OpenVINO keeps a graph's numbers in a file beside it.
    beside = [str(Path(file).with_suffix(".bin")) for file in weights if file.endswith(".xml")]
    names = [*weights, *beside, *(row.asset for row in spec.golden)]
    with staged(folder) as staging:
        for file in names:
            if (record.parent / file).is_file():
                shutil.copyfile(record.parent / file, staging / Path(file).name)
        (staging / "spec.toml").write_text(spec_to_toml(spec), encoding="utf-8")
    return spec, folder
