"""`faceproof drift`, `labels` and `ab`: what happens to a detector after it was released."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from faceproof.ops.routing import Arm
    from faceproof.results import Report

_drift = typer.Typer(no_args_is_help=True, help="Notice when files or scores stop looking like they used to.")
_labels = typer.Typer(no_args_is_help=True, help="What files turned out to be, and what that says of a detector.")
_ab = typer.Typer(no_args_is_help=True, help="Try a detector on a share of the files, or in the shadow.")
_Reports = Annotated[
    Path, typer.Argument(metavar="REPORTS", help="JSON Lines as `scan --json` writes them; - is stdin.")
]


def register(app: typer.Typer) -> None:
    app.add_typer(_drift, name="drift")
    app.add_typer(_labels, name="labels")
    app.command(name="label", hidden=True)(label)  # what `labels add` was called
    app.add_typer(_ab, name="ab")


def read_reports(path: Path) -> Iterator[Report]:
    """The reports in a JSON or JSON Lines file; rows of files that failed are passed over."""
    from pydantic import ValidationError

    from faceproof.errors import OptionError
    from faceproof.results import FailedInput, Report

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read {path}: {error}") from error
    rows = [text] if text.lstrip().startswith("{\n") else text.splitlines()
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            yield Report.model_validate_json(row)
        except ValidationError:
            try:
                FailedInput.model_validate_json(row)
            except ValidationError:
                raise OptionError(
                    f"{path}, line {number}, is no report", remedy="Write them with `scan --json`."
                ) from None


@_drift.command()
def reference(
    reports: _Reports,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the reference goes.")],
) -> None:
    """Remember what scans look like while the detector is known to be right."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.drift import Reference

    made = Reference.of(read_reports(reports))
    made.save(out)
    out_console().print(f"{made.scans} scans of {made.detector} {made.version}. Written: {out}")


@_drift.command("check")
def check_drift(
    reports: _Reports,
    against: Annotated[Path, typer.Option("--reference", "-r", metavar="FILE", help="As `drift reference` wrote it.")],
    window: Annotated[int, typer.Option(min=50, help="Scans compared at a time.")] = 250,
    step: Annotated[int, typer.Option(min=1, help="Scans between two looks.")] = 50,
    per_week: Annotated[int, typer.Option(min=1, help="The traffic the false-alarm rate speaks of.")] = 10_000,
    false_alarms: Annotated[float, typer.Option(help="Probability of a false alarm in a week.")] = 0.01,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Post alarms here.")] = None,
) -> None:
    """Compare scans, in order, with a reference. Exit code 1 when something drifted."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.alerts import Webhook, tell
    from faceproof.ops.drift import DriftMonitor, DriftRule, Reference

    rule = DriftRule(window=window, step=step, scans_per_week=per_week, weekly_false_alarms=false_alarms)
    monitor = DriftMonitor(Reference.load(against), rule)
    post = Webhook(webhook) if webhook else None
    alarms = 0
    for report in read_reports(reports):
        for shift in monitor.add(report):
            alarms += 1
            change = f"{shift.before:.4g} → {shift.now:.4g}"
            out_console().print(f"after {monitor.scans} scans: {shift.signal} {change} (size {shift.size:.2f})")
            tell({"type": "drift", "scans": monitor.scans, **shift.model_dump()}, post)
    if monitor.scans < window:
        out_console().print(f"{monitor.scans} scans are fewer than one window of {window}: nothing was compared")
    elif not alarms:
        out_console().print(f"{monitor.scans} scans: no drift")
    if alarms:
        raise typer.Exit(1)


@_labels.command("add")
def label(
    what: Annotated[str, typer.Argument(metavar="FILE|SHA256", help="A file, or the sha256 a report names.")],
    truth: Annotated[str, typer.Argument(metavar="fake|real", help="What it is.")],
    by: Annotated[str, typer.Option(help="Whose word it is.")] = "",
    note: Annotated[str, typer.Option(help="How it is known.")] = "",
) -> None:
    """Say what a file turned out to be."""
    from faceproof.cli.terminal import out_console
    from faceproof.media import probe
    from faceproof.ops.labels import LabelStore

    path = Path(what)
    sha256 = probe(path).sha256 if path.exists() else what
    made = LabelStore().label(sha256, truth, by=by, note=note)
    out_console().print(f"{made.sha256[:16]}… is {made.truth}")


@_labels.command()
def remember(reports: _Reports) -> None:
    """Keep the answers of scans, so that labels can be held against them."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.labels import LabelStore

    store, count = LabelStore(), 0
    for report in read_reports(reports):
        store.remember(report)
        count += 1
    out_console().print(f"{count} {'scan' if count == 1 else 'scans'} kept")


_ServiceData = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Labels given in the service with this data folder.", show_default=False
    ),
]


@_labels.command("report")
def report_labels(
    detector: Annotated[str | None, typer.Option("--detector", "-d", metavar="NAME")] = None, data: _ServiceData = None
) -> None:
    """Precision and recall week by week, on the files that somebody labelled."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.labels import LabelStore, Rate, precision_recall

    def shown(rate: Rate) -> str:
        return (
            "–".ljust(24)
            if rate.value is None
            else f"{rate.value:.2f} ({rate.low:.2f}–{rate.high:.2f}) of {rate.of}".ljust(24)
        )

    if data is not None:
        from faceproof.cli.serve import open_site
        from faceproof.service.labels import gather

        found = gather(open_site(data))
        scans = [scan for scan in found.scans if detector in (None, scan.detector)]
        disputed = found.disputed
    else:
        store = LabelStore()
        scans, disputed = store.labelled_scans(detector), len(store.truths()[1])
    console = out_console()
    console.print(f"{'week':<12}{'detector':<28}{'precision':<24}{'recall':<24}false alarms")
    for period in precision_recall(scans):
        name = f"{period.detector} {period.version}"
        rates = "".join(shown(rate) for rate in (period.precision, period.recall, period.false_alarms))
        console.print(f"{period.start:<12}{name:<28}{rates}".rstrip())
    if disputed:
        console.print(f"{disputed} files are disputed and used for nothing")


@_labels.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="CSV", help="A manifest for training.")],
    only_mistakes: Annotated[bool, typer.Option("--only-mistakes", help="Files the detector got wrong.")] = False,
    data: _ServiceData = None,
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --data: copy the files here before retention erases them."),
    ] = None,
) -> None:
    """Write the labelled files as a manifest to train on."""
    from faceproof.cli.terminal import out_console
    from faceproof.errors import OptionError
    from faceproof.ops.labels import LabelStore, retraining_manifest

    if (data is None) != (media is None):
        raise OptionError("--data and --media go together", remedy="A service's files are copied to be kept.")
    if data is not None and media is not None:
        from faceproof.cli.serve import open_site
        from faceproof.service.labels import copy_media, gather

        site = open_site(data)
        found = gather(site)
        scans, truths = copy_media(site, found, media), found.truths
    else:
        store = LabelStore()
        scans, truths = store.labelled_scans(), store.truths()[0]
    rows, gone = retraining_manifest(scans, truths, out, only_mistakes=only_mistakes)
    out_console().print(f"{rows} files{f', {gone} are gone' if gone else ''}. Written: {out}")


@_ab.command()
def create(
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT")],
    control: Annotated[str, typer.Option(metavar="DETECTOR", help="The detector in use.")],
    arm: Annotated[list[str], typer.Option("--arm", metavar="NAME=DETECTOR:SHARE", help="One to try, and its share.")],
    shadow: Annotated[bool, typer.Option("--shadow", help="Record only; the control answers everybody.")] = False,
    max_error_rate: Annotated[float, typer.Option(help="Stop an arm that fails this much more often.")] = 0.02,
) -> None:
    """Start an experiment."""
    from pydantic import ValidationError

    from faceproof.cli.terminal import out_console
    from faceproof.errors import OptionError
    from faceproof.ops.routing import Arm, Experiment, Guardrails

    tried = [_arm(text) for text in arm]
    rest = 1.0 if shadow else max(1.0 - sum(one.share for one in tried), 0.0)
    try:
        made = Experiment(
            name=name,
            kind="shadow" if shadow else "ab",
            arms=(Arm(name="control", detector=control, share=rest), *tried),
            guardrails=Guardrails(error_rate=max_error_rate),
        )
    except ValidationError as error:
        raise OptionError(f"this is no experiment: {error.errors()[0]['msg']}") from None
    out_console().print(f"Written: {made.save()}")


def _arm(text: str) -> Arm:
    from pydantic import ValidationError

    from faceproof.errors import OptionError
    from faceproof.ops.routing import Arm

    name, _, rest = text.partition("=")
    detector, _, share = rest.rpartition(":")
    try:
        return Arm(name=name, detector=detector, share=float(share))
    except (ValueError, ValidationError):
        raise OptionError(
            f"{text!r} is no arm", remedy="Write NAME=DETECTOR:SHARE, for instance new=my-net:0.1."
        ) from None


@_ab.command("scan")
def scan_ab(
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH")],
) -> None:
    """Scan files as the experiment routes them, and record what every arm did. Guardrails are checked after each file."""
    from faceproof import wording
    from faceproof.batch import ScanOptions, scan_one
    from faceproof.cli.terminal import out_console
    from faceproof.detectors.detector import Detector, load_detector
    from faceproof.media import probe, walk
    from faceproof.ops.comparison import guard
    from faceproof.ops.routing import Experiment, run
    from faceproof.ops.trials import TrialStore
    from faceproof.results import FailedInput, Report

    experiment, trials = Experiment.load(name), TrialStore()
    loaded: dict[str, Detector] = {}
    for path in walk(paths):

        def score(detector: str, path: Path = path) -> Report | FailedInput:
            if detector not in loaded:
                loaded[detector] = load_detector(detector)
            return scan_one(path, loaded[detector], ScanOptions())

        outcome = run(experiment, probe(path).sha256, score, trials)
        said = wording.headline(outcome) if isinstance(outcome, Report) else outcome.message
        out_console().print(f"{path}  {said}")
        checked = guard(experiment, trials.of(name))
        for stopped in set(checked.stopped) - set(experiment.stopped):
            out_console().print(f"stopped {stopped}: {checked.stopped[stopped]}")
        checked.save()
        experiment = checked


@_ab.command("report")
def report_ab(
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT")],
    worth: Annotated[float, typer.Option(help="The smallest difference worth knowing, for the sample size.")] = 0.05,
) -> None:
    """Every arm's difference to the control, with its 95 % interval and the sample still needed."""
    from faceproof.cli.terminal import out_console
    from faceproof.ops.comparison import compare_arms
    from faceproof.ops.labels import LabelStore
    from faceproof.ops.routing import Experiment
    from faceproof.ops.trials import TrialStore

    experiment = Experiment.load(name)
    truths = {sha256: truth == "fake" for sha256, truth in LabelStore().truths()[0].items()}
    console = out_console()
    for one in compare_arms(experiment, TrialStore().of(name), labels=truths, worth=worth):
        needed = "" if one.needed is None else f", {one.needed} keys a side would show {worth:g}"
        console.print(
            f"{one.arm:<12}{one.metric:<16}{one.control_value:.3g} → {one.arm_value:.3g}  "
            f"{one.difference:+.3g} ({one.low:+.3g} to {one.high:+.3g}), {one.keys[0]} and {one.keys[1]} keys{needed}"
        )
    for arm, why in experiment.stopped.items():
        console.print(f"{arm:<12}stopped: {why}")
