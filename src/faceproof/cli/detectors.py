"""`faceproof detectors …`, `faceproof import` and `faceproof export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from faceproof.cli import EXIT_SOME_FAILED

_detectors = typer.Typer(no_args_is_help=True, help="Which detectors there are; fetch, add, check and remove them.")

_NAME = typer.Argument(metavar="NAME", help="A detector, as `detectors list` names it.")
_SET = typer.Option("--set", metavar="KEY=VALUE", help="A knob of the network, for instance image_size=224.")


def register(app: typer.Typer) -> None:
    app.add_typer(_detectors, name="detectors")
    app.command("import")(import_)
    app.command("export")(export)


@_detectors.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
    ready: Annotated[bool, typer.Option("--ready", help="Only those that have weights.")] = False,
) -> None:
    """Every detector and ensemble, whether it has weights, and whether it may be used commercially."""
    import json

    from faceproof.cli.terminal import one_line, out_console, put
    from faceproof.detectors import catalog
    from faceproof.detectors.ensemble import list_ensembles

    rows = []
    for installed in catalog.installed_specs():
        spec = installed.spec
        if ready and not installed.has_weights:
            continue
        rows.append(
            {
                "name": spec.name,
                "version": spec.version,
                "weights": installed.has_weights,
                "commercial": spec.licence.commercial,
                "licence": spec.licence.weights,
                "origin": spec.licence.origin,
                "source": installed.origin,
                "default": spec.name == catalog.DEFAULT_DETECTOR,
                "summary": spec.summary,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    console = out_console()
    rows.sort(key=lambda row: (not row["default"], not row["weights"]))
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        state = "ready     " if row["weights"] else "no weights"
        use = "any use       " if row["commercial"] else "non-commercial"
        mark = "*" if row["default"] else " "
        line = f"{mark}{str(row['name']).ljust(width)}  {state}  {use}  {one_line(str(row['summary']))}"
        put(console, line, hang=4)
    for joint in list_ensembles():
        line = f" {joint.name.ljust(width)}  ensemble of {len(joint.members)}  {one_line(joint.summary)}"
        put(console, line, hang=4)


@_detectors.command()
def show(name: Annotated[str, _NAME]) -> None:
    """Print a detector's whole record as TOML, and where its weights come from."""
    from faceproof.detectors import catalog
    from faceproof.detectors.ensemble import ensemble_files, read_ensemble
    from faceproof.detectors.spec_text import spec_to_toml

    for path in ensemble_files():
        if read_ensemble(path).name == name:
            typer.echo(path.read_text(encoding="utf-8"), nl=False)
            return
    installed = catalog.find_spec(name)
    typer.echo(f"# {installed.source}")
    typer.echo(f"# weights: {_weights_line(installed)}")
    typer.echo(spec_to_toml(installed.spec), nl=False)


def _weights_line(installed: object) -> str:
    from faceproof.detectors import catalog
    from faceproof.errors import WeightsError

    assert isinstance(installed, catalog.InstalledSpec)
    try:
        return str(catalog.weights_path(installed))
    except WeightsError as error:
        return f"{error.message}. {error.remedy}"


@_detectors.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="All with weights by default.")] = None,
) -> None:
    """Check weights against their checksums and repeat the known answers. Exit 1 when something is wrong."""
    from faceproof.cli.terminal import out_console, put
    from faceproof.detectors import catalog
    from faceproof.diagnosis import examine_detector

    chosen = [catalog.find_spec(name) for name in names or ()] or [
        i for i in catalog.installed_specs() if i.has_weights
    ]
    console, wrong = out_console(), False
    for installed in chosen:
        for finding in examine_detector(installed):
            # Asked for by name, missing weights are a failure; otherwise they are not looked at.
            bad = finding.state == "wrong" or (finding.state == "absent" and not installed.has_weights)
            wrong = wrong or bad
            put(console, f"{finding.state:<7}{finding.subject:<36} {finding.detail}", hang=7)
            if finding.remedy:
                put(console, f"       {finding.remedy}", hang=7)
    if wrong:
        raise typer.Exit(EXIT_SOME_FAILED)


@_detectors.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A detector or ensemble, as `detectors list` names it.")],
    sha256: Annotated[
        list[str] | None,
        typer.Option(
            "--sha256",
            metavar="HEX",
            help="The file's checksum, where its authors state none; of an ensemble MEMBER=HEX, once for each.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Fetch this instead; needs --sha256.")] = None,
    stay_offline: Annotated[bool, typer.Option("--offline", help="Use only what was fetched before.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite what is installed under that name.")] = False,
) -> None:
    """Fetch the authors' checkpoint, check it, and import it; of an ensemble, each member that is not there yet."""
    from faceproof.detectors.pull import fetch, wanted

    files, ready = wanted(name, _checksums(sha256 or [], name), url=url, replace=replace)
    for member in ready:
        typer.echo(f"{member} is there already", err=True)
    for file in files:
        typer.echo(f"{file.name}: {file.licence}", err=True)
        path = fetch(file.url, file.sha256, progress=_percent(), stay_offline=stay_offline)
        _import_file(path, file.import_as, file.name, [], replace)


def _checksums(given: list[str], name: str) -> dict[str, str]:
    """``MEMBER=HEX`` by member; ``HEX`` alone belongs to the detector asked for."""
    from faceproof.detectors.ensemble import find_ensemble
    from faceproof.errors import OptionError

    found: dict[str, str] = {}
    for one in given:
        member, sign, digest = one.rpartition("=")
        if not sign:
            if find_ensemble(name) is not None:
                raise OptionError(f"{name} has several members", remedy="Say whose it is: --sha256 MEMBER=HEX.")
            member = name
        found[member] = digest
    return found


def _percent() -> Callable[[int, int | None], None]:
    import sys

    last = -1

    def tell(have: int, total: int | None) -> None:
        nonlocal last
        step = have * 20 // total if total else have >> 24
        if step != last or have == total:
            last = step
            done = f"{have * 100 // total} %" if total else ""
            end = "\n" if have == total else "\r" if sys.stderr.isatty() else "\n"
            sys.stderr.write(f"  {have / 1e6:.0f} MB {done}{end}")

    return tell


@_detectors.command()
def add(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds spec.toml and weights: RUN/package of a training run.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; by default as its record does.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite what is installed under that name.")] = False,
) -> None:
    """Install a detector that you trained: its weights are checked and must give the record's known answers."""
    from faceproof.detectors.installing import add_detector

    spec, place = add_detector(folder, name=name, replace=replace)
    typer.echo(f"installed {spec.name} {spec.version} in {place}")
    if spec.verdict.band is None:
        typer.echo(f"It has no band yet in which it gives no verdict: faceproof calibrate {spec.name} --help", err=True)
    typer.echo(f"Try it: faceproof scan FILE --detector {spec.name}")


@_detectors.command()
def remove(name: Annotated[str, _NAME]) -> None:
    """Delete a detector that you imported, pulled or added."""
    from faceproof.detectors import catalog
    from faceproof.detectors.pull import remove as delete

    typer.echo(f"removed {delete(catalog.find_spec(name))}")


def _needs_extra(feature: str, extra: str, *packages: str) -> None:
    from importlib.util import find_spec

    from faceproof.errors import MissingExtraError

    if any(find_spec(package) is None for package in packages):
        raise MissingExtraError.of(feature, extra)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".pth, .pt, .tar, .safetensors, .keras, .h5 or .onnx")],
    as_: Annotated[str, typer.Option("--as", metavar="DETECTOR", help="Whose network and recipe the file belongs to.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; by default as DETECTOR.")] = None,
    settings: Annotated[list[str] | None, _SET] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite what was imported under that name.")] = False,
) -> None:
    """Turn an author's checkpoint into a detector: every key checked, converted, compared, installed."""
    _import_file(file, as_, name, settings or [], replace)


def _import_file(file: Path, as_: str, name: str | None, settings: list[str], replace: bool) -> None:
    _needs_extra("Importing", "train", "torch", "timm", "onnx", "onnxscript", "safetensors", "h5py")
    from faceproof.training.importing.install import import_checkpoint
    from faceproof.training.recipe import parse_changes

    made = import_checkpoint(
        file,
        as_detector=as_,
        name=name,
        settings=parse_changes(settings),
        replace=replace,
        progress=lambda step: typer.echo(step, err=True),
    )
    typer.echo(f"installed {made.spec.name} {made.spec.version} in {made.folder}")
    if made.agreement is not None:
        typer.echo(
            f"{made.parameters:,} parameters; torch and ONNX differ by at most {made.agreement.logit:.1e} in the logit "
            f"and {made.agreement.heatmap:.1e} in the heatmap over {made.agreement.crops} crops"
        )
    typer.echo(f"Try it: faceproof scan FILE --detector {made.spec.name}")


def export(
    name: Annotated[str, _NAME],
    format_: Annotated[str, typer.Option("--format", help="onnx, openvino, torchscript, triton or int8")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="For int8: face crops in DIR/real and DIR/fake.")
    ] = None,
) -> None:
    """Write a detector's network for another engine, compared with the original; int8 only if it passes its gate."""
    _needs_extra("Exporting", "train", "torch", "onnx", "safetensors")
    if format_ == "int8":
        _needs_extra("Exporting to int8", "export", "nncf", "openvino")
    from faceproof.detectors import catalog
    from faceproof.training.convert.formats import export_detector

    result = export_detector(catalog.find_spec(name), format_, out, data=data)
    for path in result.files:
        typer.echo(str(path))
    typer.echo(result.words)
