"""Which detectors there are, and where their weights lie: the package's own and the user's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from faceproof.detectors.aggregate import check_method
from faceproof.detectors.spec import DetectorSpec, read_spec
from faceproof.errors import SpecError, UnknownDetectorError, WeightsError

DEFAULT_DETECTOR = "faceproof-small"

_PACKAGE = Path(__file__).parent
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class InstalledSpec:
    """A spec and where its files are: ``folder`` holds the weights, ``source`` is the TOML."""

    spec: DetectorSpec
    folder: Path
    source: Path
    origin: Literal["package", "user"]

    @property
    def has_weights(self) -> bool:
        """Whether the weights named are there; says nothing about their content."""
        names = self.spec.weights.parts or ((self.spec.weights.file,) if self.spec.weights.file else ())
        return bool(names) and self.spec.weights.sha256 is not None and all((self.folder / n).is_file() for n in names)


def home() -> Path:
    """The user's model folder: ``FACEPROOF_HOME``, otherwise the platform's data folder. Not created here."""
    chosen = os.environ.get("FACEPROOF_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("faceproof", appauthor=False))


def user_models() -> Path:
    """Where imported detectors live: one folder each, holding ``spec.toml`` and the weights."""
    return home() / "models"


def installed_specs() -> Iterator[InstalledSpec]:
    """Every spec found, the package's first. Raises :class:`SpecError` when one of them is wrong or named twice.

    A package spec without weights gives way to the user's of that name: that is what an import makes. A profile without
    weights of its own uses those of the detector it is a profile of.
    """
    found: dict[str, InstalledSpec] = {}
    for source in sorted((_PACKAGE / "specs").glob("*.toml")):
        spec = _checked(source)
        if spec.name in found:
            raise _named_twice(spec, found[spec.name].source, source)
        found[spec.name] = InstalledSpec(spec, _PACKAGE / "weights", source, "package")
    for source in sorted(user_models().glob("*/spec.toml")):
        spec = _checked(source)
        before = found.get(spec.name)
        if before and (before.origin == "user" or before.spec.weights.sha256):
            raise _named_twice(spec, before.source, source)
        found[spec.name] = InstalledSpec(spec, source.parent, source, "user")
    for installed in found.values():
        parent = found.get(installed.spec.profile_of or "")
        if parent and installed.spec.weights.sha256 is None and parent.spec.weights.sha256:
            borrowed = {"weights": parent.spec.weights, "architecture_settings": parent.spec.architecture_settings}
            yield InstalledSpec(
                installed.spec.model_copy(update=borrowed), parent.folder, installed.source, installed.origin
            )
        else:
            yield installed


def _checked(source: Path) -> DetectorSpec:
    spec = read_spec(source)
    check_method(spec.aggregate.track)
    if spec.aggregate.file.method != "worst_track":
        check_method(spec.aggregate.file)
    return spec


def _named_twice(spec: DetectorSpec, first: Path, second: Path) -> SpecError:
    return SpecError(
        f"two detectors are called {spec.name}: {first} and {second}",
        remedy=f"Rename one, or remove yours with `faceproof detectors remove {spec.name}`.",
    )


def list_detectors() -> list[DetectorSpec]:
    """The specs of all installed detectors, with weights or without."""
    return [installed.spec for installed in installed_specs()]


def find_spec(name: str) -> InstalledSpec:
    """The detector of that name. Raises :class:`UnknownDetectorError`."""
    known = {}
    for installed in installed_specs():
        if installed.spec.name == name:
            return installed
        known[installed.spec.name] = installed.has_weights
    meant = get_close_matches(name, known, n=1)
    guess = f"Did you mean {meant[0]}? " if meant else ""
    ready = [one for one, has_weights in known.items() if has_weights]
    raise UnknownDetectorError(
        f"no detector is called {name!r}",
        remedy=f"{guess}With weights here: {', '.join(ready) or 'none'}; `faceproof detectors list` shows all {len(known)}.",
    )


def weights_path(installed: InstalledSpec) -> Path:
    """The detector's network file, after its content was checked against the spec's sha256.

    Raises :class:`WeightsError` that says what is wrong and what to do: missing, a Git LFS pointer, truncated, altered.
    """
    spec, weights = installed.spec, installed.spec.weights
    if weights.sha256 is None or not (weights.file or weights.parts):
        raise WeightsError(f"{spec.name} has no trained weights here", remedy=_how_to_get(spec))
    if weights.parts:
        return _joined(installed)
    path = installed.folder / str(weights.file)
    _check(path, path, installed)
    return path


def _joined(installed: InstalledSpec) -> Path:
    """Weights split over several files, joined once into the user's folder."""
    weights = installed.spec.weights
    joined = home() / "joined" / f"{weights.sha256}.onnx"
    if not joined.is_file():
        missing = [part for part in weights.parts if not (installed.folder / part).is_file()]
        if missing:
            raise WeightsError(
                f"{installed.spec.name}: part {missing[0]} is missing", remedy=_how_to_get(installed.spec)
            )
        joined.parent.mkdir(parents=True, exist_ok=True)
        fresh = joined.with_suffix(f".{os.getpid()}.partial")
        with fresh.open("wb") as out:
            for part in weights.parts:
                out.write((installed.folder / part).read_bytes())
        fresh.replace(joined)
    _check(joined, installed.folder / weights.parts[0], installed)
    return joined


def _check(path: Path, shown: Path, installed: InstalledSpec) -> None:
    spec = installed.spec
    remedy = _how_to_get(spec)
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
            if head == _LFS_POINTER:
                raise WeightsError(
                    f"{shown} is a Git LFS pointer, not the weights", remedy="Run `git lfs pull` where it came from."
                )
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise WeightsError(f"the weights of {spec.name} are missing: {shown}", remedy=remedy) from None
    except OSError as error:
        raise WeightsError(f"cannot read {shown}: {error.strerror}", remedy=remedy) from error
    size = path.stat().st_size
    if spec.weights.size is not None and size < spec.weights.size:
        raise WeightsError(f"{shown} is cut off: {size} of {spec.weights.size} bytes", remedy=remedy)
    if found != spec.weights.sha256:
        raise WeightsError(
            f"{shown} is not the file that {spec.name} was measured with (sha256 {found[:12]}…, "
            f"expected {str(spec.weights.sha256)[:12]}…)",
            remedy=remedy,
        )


def _how_to_get(spec: DetectorSpec) -> str:
    if spec.weights.url:
        return f"Run `faceproof detectors pull {spec.name}`."
    if spec.name.startswith("faceproof-"):
        return "Reinstall faceproof; the file belongs to the package."
    name = spec.profile_of or spec.name
    file = f"{spec.checkpoint.file}, " if spec.checkpoint.file else ""
    return (
        f"Get the authors' checkpoint ({file}{spec.licence.origin}) and run `faceproof import FILE --as {name}`; "
        "an untrained network is never scored."
    )
