"""`faceproof models`: packages, versions and what is in production."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from faceproof.detectors.detector import Detector
    from faceproof.ops.promotion import Gate
    from faceproof.ops.registry import Standing

_models = typer.Typer(no_args_is_help=True, help="Versions of detectors: pack, publish, promote, roll back, pin.")
_Registry = Annotated[
    str | None, typer.Option("--registry", metavar="PLACE", help="A folder, or http://… of an MLflow server.")
]
_Trust = Annotated[Path | None, typer.Option(metavar="DIR", help="Take only packages signed by a public key in here.")]
_Name = Annotated[str, typer.Argument(metavar="DETECTOR")]
_Version = Annotated[str, typer.Argument(metavar="VERSION")]
_By = Annotated[str, typer.Option(help="Who does it, for the history.")]


def register(app: typer.Typer) -> None:
    app.add_typer(_models, name="models")


def _open(registry: str | None, trust: Path | None = None) -> Any:
    from faceproof.ops.packages import trusted_keys
    from faceproof.ops.registry import FolderRegistry

    trusted = None if trust is None else trusted_keys(trust)
    if registry is not None and registry.startswith(("http://", "https://")):
        from faceproof.ops.mlflow_registry import MlflowRegistry

        return MlflowRegistry(registry, trusted=trusted)
    return FolderRegistry(None if registry is None else Path(registry), trusted=trusted)


def _show(standing: Standing) -> None:
    from faceproof.cli.terminal import out_console

    for version in standing.versions:
        marks = [
            word for word, one in (("production", standing.production), ("pinned", standing.pinned)) if one == version
        ]
        out_console().print(f"{standing.name} {version}{'  ' if marks else ''}{', '.join(marks)}")


@_models.command()
def pack(
    name: _Name,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Sign with this Ed25519 private key.")] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE", help="The model card, as Markdown.")] = None,
) -> None:
    """Put an installed detector into a folder that can be handed on, with checksums, licence and card."""
    from faceproof.cli.terminal import out_console
    from faceproof.detectors.catalog import find_spec
    from faceproof.evidence.signing import load_signing_key
    from faceproof.ops import packages

    signer = None
    if key is not None:
        signer = load_signing_key(key, lambda: str(typer.prompt("Passphrase", hide_input=True, err=True)))
    text = card.read_text(encoding="utf-8") if card is not None else ""
    record = packages.pack(find_spec(name), out, key=signer, card=text)
    out_console().print(
        f"{record.name} {record.version}: {len(record.files)} files{', signed' if key else ''} in {out}"
    )


@_models.command()
def verify(package: Annotated[Path, typer.Argument(metavar="FOLDER")], trust: _Trust = None) -> None:
    """Check a package: its signature, every file, and its known answers."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops import packages

    trusted = None if trust is None else packages.trusted_keys(trust)
    found = packages.verify(package, trusted=trusted)
    signer = f"signed by {found.signer}" if found.signer else "not signed"
    answers = f"{found.record.golden_rows} known answers repeated"
    out_console().print(f"{found.record.name} {found.record.version} is whole, {signer}, {answers}")


@_models.command()
def publish(
    package: Annotated[Path, typer.Argument(metavar="FOLDER")], registry: _Registry = None, trust: _Trust = None
) -> None:
    """Keep a package in the registry. It is not used before it is promoted."""
    from faceproof.cli.terminal import out_console

    record = _open(registry, trust).publish(package).record
    out_console().print(f"Published: {record.name} {record.version}")


@_models.command("list")
def list_(registry: _Registry = None) -> None:
    """Every version kept, and which are in production or pinned."""
    place = _open(registry)
    for name in place.names():
        _show(place.standing(name))


@_models.command()
def promote(
    name: _Name,
    version: _Version,
    manifest: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Refuse it unless these labelled files show it is as good.")
    ] = None,
    better: Annotated[bool, typer.Option("--better", help="As good is not enough: it must be better.")] = False,
    frames: Annotated[str, typer.Option(metavar="S", help="For the files of --manifest.")] = "auto",
    by: _By = "",
    registry: _Registry = None,
    trust: _Trust = None,
) -> None:
    """Put a version into production, here and in the registry."""
    from faceproof.cli.terminal import out_console
    from faceproof.errors import OptionError
    from faceproof.ops import registry as versions

    place = _open(registry, trust)
    gate = None
    if manifest is not None:
        standing = place.standing(name)
        if standing.production is None:
            raise OptionError(
                f"{name} has no version in production to compare with", remedy="Promote without --manifest."
            )
        gate = measure_gate(place, name, version, standing.production, manifest, frames=frames, better=better)
        out_console().print(gate.reason)
    _show(versions.promote(place, name, version, gate=gate, by=by))


def measure_gate(
    place: Any, name: str, version: str, incumbent: str, manifest: Path, *, frames: str = "auto", better: bool = False
) -> Gate:
    """Score the labelled files with both versions and judge the candidate by a paired bootstrap over source videos."""
    import hashlib
    import tempfile

    from faceproof.errors import OptionError
    from faceproof.evaluation.runs import open_manifest
    from faceproof.evaluation.scores import ScoreTable
    from faceproof.evaluation.significance import Contender, compare
    from faceproof.ops.promotion import judge_candidate

    files = open_manifest(manifest)
    sides = []
    with tempfile.TemporaryDirectory(prefix="faceproof-gate-") as folder:
        for one in (version, incumbent):
            detector = _packaged(place.fetch(name, one, Path(folder) / one))
            table = ScoreTable.of(
                [str(entry.path) for entry in files.entries],
                [entry.label for entry in files.entries],
                [_score(entry.path, detector, frames) for entry in files.entries],
                source_video=[entry.source_video or str(entry.path) for entry in files.entries],
            )
            sides.append(Contender(one, table, detector.spec.verdict.threshold))
    found = compare(*sides)
    if found.difference.value is None:
        raise OptionError("the two versions cannot be compared on these files")
    digest = hashlib.sha256("\n".join(f"{files.relative(e)},{e.label}" for e in files.entries).encode()).hexdigest()
    return judge_candidate(
        candidate=version,
        incumbent=incumbent,
        difference=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        files=found.files,
        groups=found.groups,
        coverage_lost=found.only_b / max(found.only_b + found.files, 1),
        rule="better" if better else "not_worse",
        manifest_sha256=digest,
    )


def _packaged(folder: Path) -> Detector:
    from faceproof.detectors.catalog import InstalledSpec, weights_path
    from faceproof.detectors.detector import Detector
    from faceproof.detectors.spec import read_spec
    from faceproof.runtime import load_network

    spec = read_spec(folder / "spec.toml")
    return Detector(spec, load_network(weights_path(InstalledSpec(spec, folder, folder / "spec.toml", "user"))))


def _score(path: Path, detector: Detector, frames: str) -> float:
    from faceproof.batch import ScanOptions, scan_one
    from faceproof.results import Report

    outcome = scan_one(path, detector, ScanOptions(frames=frames))
    score = outcome.score if isinstance(outcome, Report) else None
    return float("nan") if score is None else score


@_models.command()
def rollback(name: _Name, by: _By = "", registry: _Registry = None) -> None:
    """Return to the version that was in production before."""
    from faceproof.ops import registry as versions

    _show(versions.rollback(_open(registry), name, by=by))


@_models.command()
def pin(
    name: _Name,
    version: Annotated[str | None, typer.Argument(metavar="VERSION")] = None,
    off: Annotated[bool, typer.Option("--off", help="Lift the pin.")] = False,
    registry: _Registry = None,
) -> None:
    """Forbid promotions of any other version."""
    from faceproof.errors import OptionError
    from faceproof.ops import registry as versions

    if (version is None) != off:
        raise OptionError("give a version to pin, or --off")
    _show(versions.pin(_open(registry), name, version))
