"""`faceproof calibrate`: what a score means as a probability, and where no verdict is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceproof.cli.measuring import (
    Cache,
    Frames,
    Jobs,
    Layout,
    NoCache,
    Seed,
    Split,
    Threads,
    check_rates,
    check_writable,
    command_line,
    detector_run,
    name_of,
    needs_extra,
    one_of,
    progress,
    say,
)

if TYPE_CHECKING:
    from faceproof.detectors.spec import Calibration, VerdictRule
    from faceproof.evaluation.choosing import Chosen, Person, Rates

_FALSE_ALARMS, _MISSES, _FRAME_ALARMS = 0.01, 0.2, 0.05


def calibrate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SCORES|DETECTOR",
            help="Scores of a calibration set, or evaluate's folder; a detector's name with --self-made or --data.",
        ),
    ],
    self_made: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Genuine faces in shards: clips are made of those the training held out."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Labelled media, never those you will evaluate on.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="temperature, platt or isotonic.")] = "platt",
    spec: Annotated[
        Path | None, typer.Option(metavar="TOML", help="The spec to write into; the detector's own by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="TOML", help="Where the new spec goes.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Change the detector's installed spec.")] = False,
    max_false_alarms: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help=f"Genuine files called FAKE; for a detector {_FALSE_ALARMS:g} unless you choose another.",
        ),
    ] = None,
    max_misses: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help=f"Forgeries called REAL; {_MISSES:g} for a detector, as --max-false-alarms for scores.",
        ),
    ] = None,
    max_frame_alarms: Annotated[
        float, typer.Option(metavar="RATE", help="Genuine faces above the frame threshold.")
    ] = _FRAME_ALARMS,
    name: Annotated[str | None, typer.Option(metavar="WORDS", help="What to call the data in the spec.")] = None,
    layout: Layout = "auto",
    split: Split = None,
    frames: Frames = "32",
    faces: Annotated[int, typer.Option(min=1, max=64, help="Frames of a self-made clip.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Self-made clips of every picture, of each class.")] = 2,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe that held people out; the one of the detector's name by default.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = 1,
    threads: Threads = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Fit scores to probabilities, and choose the bands in which no verdict is given.

    From SCORES: the calibration and, with --max-false-alarms, one band. From a DETECTOR: calibration, bands for stills and
    for clips, for small and for blurred faces, and the frame threshold, on people the network never saw (--self-made) or on
    your own media (--data). Never choose on the set you then evaluate on. Prints the spec's tables, or writes a whole spec.
    """
    needs_extra()
    from faceproof.errors import OptionError
    from faceproof.evaluation import calibrate as fitting
    from faceproof.evaluation.choosing import Rates

    one_of("--method", method, fitting.METHODS)
    check_rates("--max-false-alarms", max_false_alarms)
    check_rates("--max-misses", max_misses)
    check_rates("--max-frame-alarms", max_frame_alarms)
    if self_made is not None and data is not None:
        raise OptionError("--self-made and --data are two answers to one question", remedy="Give one of them.")
    if write and (output is not None or spec is not None):
        raise OptionError(
            "--write changes the detector's own spec", remedy="Leave --write out, or --spec and --output."
        )
    if self_made is None and data is None:
        if write:
            raise OptionError("--write needs a DETECTOR", remedy="Name one with --self-made or --data.")
        _from_scores(Path(what), method, spec, output, split, max_false_alarms, max_misses, name)
        return
    if output is not None:
        check_writable(output.parent)
    source = spec or _own_spec(what)
    text = _read(source)
    rates = Rates(max_false_alarms or _FALSE_ALARMS, max_misses or _MISSES, max_frame_alarms)
    if self_made is not None:
        people, described = _self_made(what, self_made, recipe, changes or [], faces, rounds, seed, threads)
    else:
        assert data is not None
        run = detector_run(what, frames, jobs, threads, cache, no_cache)
        people, described = _from_media(data, layout, split, run)
    chosen = _choose(people, what, text, rates, method, name or described)
    _tell(chosen, rates)
    _deliver(text, chosen.calibration, chosen.rule, source if write else output, whole=spec is not None)


def _own_spec(name: str) -> Path:
    from faceproof.detectors.catalog import find_spec
    from faceproof.detectors.ensemble import find_ensemble
    from faceproof.errors import OptionError

    if find_ensemble(name) is not None:
        raise OptionError(
            f"{name} is an ensemble: it fuses people's scores, not single faces'",
            remedy="Evaluate it with -o, then calibrate those scores.",
        )
    return find_spec(name).source


def _read(path: Path) -> str:
    from faceproof.errors import SpecError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {error}") from error


def _self_made(
    detector: str,
    folder: Path,
    recipe: str | None,
    changes: list[str],
    faces: int,
    rounds: int,
    seed: int,
    threads: int | None,
) -> tuple[list[Person], str]:
    from itertools import chain

    import cv2

    from faceproof.detectors.detector import load_detector
    from faceproof.evaluation.choosing import watch
    from faceproof.training.footage import FootageOptions, held_out_footage, no_smaller_than
    from faceproof.training.recipe import load_recipe, parse_changes, recipe_names
    from faceproof.training.shards import FaceStore

    chosen = load_recipe(
        recipe or (detector if detector in recipe_names() else "faceproof-small"), parse_changes(changes)
    )
    store = FaceStore(folder, "held_out", chosen.pairs.held_out)
    loaded = load_detector(detector, threads=threads)
    options = no_smaller_than(FootageOptions(faces, rounds, seed=seed), loaded.spec.verdict.min_side)
    total = len(store) * rounds
    people: list[Person] = []
    # The network takes the cores; pictures this small gain nothing from sharing them.
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with progress(kept=False) as announce:
            tell = announce(f"{detector} on {total} genuine clips and their forged twins")
            for number, pair in enumerate(held_out_footage(store, chosen, options), 1):
                people += watch(loaded, chain(pair))
                if tell is not None:
                    tell(number, total, Path(pair[0].name))
    finally:
        cv2.setNumThreads(before)
    held = len(set(store.identities))
    return people, (
        f"self-made clips of {held} people held out of training ({name_of(folder)}): {rounds} of each picture, "
        f"{faces} faces each, and forgeries made of them, seed {seed}"
    )


def _from_media(data: Path, layout: str, split: str | None, run: object) -> tuple[list[Person], str]:
    from faceproof.errors import OptionError
    from faceproof.evaluation.runs import DetectorRun, open_manifest, scan_people

    assert isinstance(run, DetectorRun)
    listed = open_manifest(data, layout).only(split=split)
    if not len(listed):
        raise OptionError(f"no file of {data} is left to calibrate on", remedy="Check --split and --layout.")
    with progress(kept=run.cache is not None) as announce:
        people, problems = scan_people(listed, run, announce=announce)
    for problem in problems.problems:
        say(problem.sentence)
    return people, f"{name_of(data)}, {len(listed)} files"


def _choose(people: list[Person], detector: str, text: str, rates: Rates, method: str, data: str) -> Chosen:
    from faceproof.detectors.spec import parse_spec
    from faceproof.evaluation.choosing import choose

    record = parse_spec(text, source=detector)
    return choose(
        people,
        record.verdict,
        record.aggregate.track,
        rates,
        fit_method=method,  # type: ignore[arg-type]
        data=data,
        command=command_line(),
    )


def _tell(chosen: Chosen, rates: Rates) -> None:
    """What was chosen and how it kept its promises, in a few lines."""
    from faceproof.evaluation.runs import describe

    rule, fitted = chosen.rule, chosen.rule.fitted
    assert fitted is not None
    assert rule.band is not None
    say(f"{fitted.reals:,} genuine and {fitted.fakes:,} forged sources: {describe(chosen.calibration)}")
    say(
        f"No verdict between {rule.band[0]:.3f} and {rule.band[1]:.3f} on good material; frames above "
        f"{rule.frame_threshold:.3f} count as suspicious"
    )
    for axis in ("faces", "face_side", "sharpness", "bits_per_pixel"):
        points = getattr(rule.quality, axis, ())
        if points:
            listed = ", ".join(f"{p.at:g}: {p.low:.3f} to {p.high:.3f}" for p in points)
            say(f"By {axis.replace('_', ' ')} {listed}")
    for warning in chosen.warnings:
        say(f"Beware: {warning}")
    for kept in chosen.kept:
        say(
            f"On sources not fitted to, {kept.what}: {kept.false_alarm_rate:.1%} of {kept.reals:,} genuine called FAKE "
            f"(asked {rates.false_alarms:.1%}), {kept.miss_rate:.1%} of {kept.fakes:,} forged called REAL (asked "
            f"{rates.misses:.1%}); no verdict on {kept.inconclusive_reals:.0%} and {kept.inconclusive_fakes:.0%}"
        )


def _from_scores(
    scores: Path,
    method: str,
    spec: Path | None,
    output: Path | None,
    split: str | None,
    max_false_alarms: float | None,
    max_misses: float | None,
    name: str | None,
) -> None:
    from dataclasses import replace

    from faceproof.detectors.spec import Fitted, parse_spec
    from faceproof.errors import EvaluationError, OptionError
    from faceproof.evaluation import calibrate as fitting
    from faceproof.evaluation.conformal import fit_band, sources_needed
    from faceproof.evaluation.runs import describe, table_for_calibration

    if output is not None and spec is None:
        raise OptionError("--output needs the --spec to write into", remedy="Name a detector's TOML with --spec.")
    table = table_for_calibration(scores, split)
    called = name or name_of(scores)
    fitted = fitting.fit(table, method, data=called)  # type: ignore[arg-type]
    say(f"Fitted to {int(table.scored.sum()):,} files: {describe(fitted)}")
    try:
        quality = fitting.cross_check(table, method)  # type: ignore[arg-type]
        say(
            f"On files not fitted to: calibration error {quality.ece_before:.3f} before, {quality.ece_after:.3f} after; "
            f"log loss {quality.log_loss_before:.3f} before, {quality.log_loss_after:.3f} after"
        )
    except EvaluationError as error:
        say(f"Not cross-checked: {error.message}")
    text = _BARE_SPEC if spec is None else _read(spec)
    rule = parse_spec(text).verdict
    if max_false_alarms is not None:
        calibrated = replace(table, score=fitting.apply(table.score, fitted))
        band = fit_band(calibrated, max_false_alarms=max_false_alarms, max_misses=max_misses)
        origin = Fitted(
            data=called,
            data_sha256=fitted.data_sha256 or "",
            reals=band.real_sources,
            fakes=band.fake_sources,
            false_alarms=band.false_alarms,
            misses=band.misses,
            command=command_line(),
        )
        if rule.quality is not None:
            say("The spec's bands by quality were fitted to other probabilities and are left out")
        rule = band.rule(rule).model_copy(update={"fitted": origin, "quality": None})
        say(f"No verdict between {band.low:.4f} and {band.high:.4f}: {band.inconclusive:.0%} of these files")
        if not (band.enough_reals and band.enough_fakes):
            say(
                f"Beware: {band.real_sources} real and {band.fake_sources} fake source videos; a promise of "
                f"{max_false_alarms:g} needs {sources_needed(max_false_alarms)} of each"
            )
    elif rule.band is not None:
        say("Beware: the spec's band was fitted to other probabilities; --max-false-alarms fits a new one")
    _deliver(text, fitted, rule if max_false_alarms is not None else None, output, whole=spec is not None)


def _deliver(
    text: str, calibration: Calibration, rule: VerdictRule | None, output: Path | None, *, whole: bool
) -> None:
    """Write the spec, or print it, or only its fitted tables."""
    from faceproof.evaluation.calibrate import store
    from faceproof.result_files import write_whole

    if output is not None:
        write_whole(output, store(text, calibration, rule))
        say(f"Written: {output}")
    elif whole:
        sys.stdout.write(store(text, calibration, rule))
    else:
        bare = store(_BARE_SPEC, calibration, rule)
        sys.stdout.write(bare[bare.index("[") :].removeprefix(_BARE_TABLES))


# A spec around nothing, to show fitted tables when no spec is given.
_BARE_TABLES = """[licence]
weights = "none"
code = "none"
commercial = false
origin = "none"
[input]
size = 8
[output]
fake_is = "high"

"""
_BARE_SPEC = f'schema_version = 1\nname = "bare"\nversion = "0"\nsummary = ""\n{_BARE_TABLES}'
