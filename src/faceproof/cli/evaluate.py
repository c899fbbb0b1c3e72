"""`faceproof evaluate`, `compare`, `manifest`, `check-claim` and `accuracy`: how good a detector is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from faceproof.cli.calibrate import calibrate
from faceproof.cli.measuring import (
    Alarms,
    Bootstraps,
    Cache,
    Data,
    Detector,
    Frames,
    Jobs,
    Layout,
    NoCache,
    Output,
    Robustness,
    RobustnessFiles,
    Seed,
    Split,
    Threads,
    check_rates,
    check_writable,
    command_line,
    degradations,
    detector_run,
    finish,
    name_of,
    needs_extra,
    one_of,
    print_evaluation,
    print_findings,
    progress,
    say,
    show,
)


def register(app: typer.Typer) -> None:
    for verb, name in (
        (evaluate, "evaluate"),
        (compare, "compare"),
        (calibrate, "calibrate"),
        (manifest, "manifest"),
        (check_claim, "check-claim"),
        (accuracy, "accuracy"),
    ):
        app.command(name=name)(verb)


def evaluate(
    data: Data,
    detector: Detector = None,
    output: Output = None,
    frames: Frames = "auto",
    layout: Layout = "auto",
    split: Split = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many fakes of each method, and as many reals.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Judge at this threshold.")] = None,
    threshold_from: Annotated[
        str, typer.Option(metavar="WORDS", help="Where --threshold was chosen, e.g. test.")
    ] = "given",
    prior: Annotated[list[float] | None, typer.Option(help="Share of fakes where you use it; may be repeated.")] = None,
    max_false_alarms: Alarms = None,
    robustness: Robustness = "",
    robustness_files: RobustnessFiles = 10,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="Add a benchmark's protocol: deepfakebench.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Scores of other tools: probability or logit.")] = "probability",
    fake_is: Annotated[str, typer.Option("--fake-is", help="Scores of other tools: fake is high or low.")] = "high",
    pool: Annotated[str, typer.Option(help="How rows of one file are pooled: mean, max or median.")] = "mean",
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
    jobs: Jobs = 1,
    threads: Threads = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print the evaluation as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when the numbers are unsound.")] = False,
) -> None:
    """How good is a detector, on what, how sure are we, and where does it break.

    Interrupted, run the same command again: finished files are kept. Exit codes: 0 done, 1 some rows or files could not
    be used, 2 wrong usage, 3 unsound numbers (with --strict).
    """
    needs_extra()
    from dataclasses import replace

    from faceproof.errors import OptionError
    from faceproof.evaluation.evaluation import Settings
    from faceproof.evaluation.runs import (
        evaluate_detector,
        evaluate_scores,
        holds_scores,
        open_manifest,
        write_results,
    )

    one_of("--scale", scale, ("probability", "logit"))
    one_of("--fake-is", fake_is, ("high", "low"))
    one_of("--pool", pool, ("mean", "max", "median"))
    if protocol is not None:
        one_of("--protocol", protocol, ("deepfakebench",))
    check_rates("--max-false-alarms", max_false_alarms)
    check_rates("--prior", *(prior or ()))
    if output is not None:
        check_writable(output)
    swept = degradations(robustness)
    settings = Settings(
        threshold=0.5 if threshold is None else threshold,
        threshold_source=Settings.threshold_source if threshold is None else threshold_from,
        resamples=bootstraps,
        seed=seed,
        priors=tuple(prior) if prior else Settings.priors,
        max_false_alarms=max_false_alarms,
    )
    if data.is_file() and holds_scores(data):
        if detector is not None:
            raise OptionError(f"{data} holds scores already", remedy="Leave --detector out, or give media.")
        found, judged = evaluate_scores(
            data,
            settings=settings,
            scale=scale,  # type: ignore[arg-type]
            polarity=fake_is,
            aggregation=pool,  # type: ignore[arg-type]
        )
    else:
        listed = open_manifest(data, layout).only(split=split)
        if limit is not None:
            listed = listed.sample(limit)
        if not len(listed):
            raise OptionError(f"no file of {data} is left to evaluate", remedy="Check --split and --layout.")
        run = replace(
            detector_run(detector, frames, jobs, threads, cache, no_cache),
            robustness=swept,
            robustness_files=robustness_files,
            deepfakebench=protocol is not None,
        )
        with progress(kept=run.cache is not None) as announce:
            found, judged = evaluate_detector(listed, run, settings=settings, data=name_of(data), announce=announce)
    written = write_results(output, found, judged, command=command_line()) if output is not None else []
    if json_out:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        print_evaluation(found)
    for path in written:
        say(f"Written: {path}")
    finish(found.findings, problems=len(found.problems), strict=strict)


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Scores, a folder written by evaluate, or a detector (--data).")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    data: Annotated[Path | None, typer.Option(metavar="DATA", help="Media to run detectors A and B on.")] = None,
    output: Output = None,
    layout: Layout = "auto",
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
    jobs: Jobs = 1,
    threads: Threads = None,
    cache: Cache = None,
    no_cache: NoCache = False,
    json_out: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Is A really better than B: paired intervals by source video, DeLong, and what only one of them judged."""
    needs_extra()
    from faceproof.evaluation.comparison import comparison_document
    from faceproof.evaluation.document import to_html, to_markdown
    from faceproof.evaluation.evaluation import Settings
    from faceproof.evaluation.runs import (
        evaluate_detector,
        make_folder,
        open_manifest,
        read_contender,
        write_page,
    )
    from faceproof.evaluation.significance import Contender
    from faceproof.evaluation.significance import compare as compare_scores
    from faceproof.result_files import write_whole

    if output is not None:
        check_writable(output)
    sides = []
    for side in (a, b):
        if data is None:
            sides.append(read_contender(side))
            continue
        run = detector_run(str(side), "auto", jobs, threads, cache, no_cache)
        with progress(kept=run.cache is not None) as announce:
            listed = open_manifest(data, layout)
            one, judged = evaluate_detector(
                listed, run, settings=Settings(resamples=0, seed=seed), data=name_of(data), announce=announce
            )
        sides.append((Contender(str(side), judged.video, one.threshold), one))
    (first, of_a), (second, of_b) = sides
    found = compare_scores(first, second, resamples=bootstraps, seed=seed)
    blocks = comparison_document(found, of_a, of_b)
    if output is not None:
        make_folder(output)
        write_whole(output / "comparison.json", found.model_dump_json(indent=2) + "\n")
        write_whole(output / "comparison.html", to_html(f"{found.name_a} and {found.name_b}", blocks))
        write_page(output / "comparison.md", blocks, figures=output / "figures")
        say(f"Written: {output / 'comparison.html'}")
    sys.stdout.write(found.model_dump_json(indent=2) + "\n" if json_out else to_markdown(blocks))


def manifest(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A dataset as it was published, or real/ and fake/.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="CSV", help="The manifest to write.")],
    layout: Layout = "auto",
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also look for the same picture on both sides of a split.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a leak is found.")] = False,
) -> None:
    """Write the manifest of a dataset's folder, and look for leaks between its splits."""
    needs_extra()
    import numpy as np

    from faceproof.evaluation.duplicates import find_duplicates
    from faceproof.evaluation.manifest import write_manifest
    from faceproof.evaluation.runs import open_manifest
    from faceproof.evaluation.scores import families
    from faceproof.evaluation.soundness import leakage

    found = open_manifest(folder, layout)
    write_manifest(found, output)
    fakes = sum(entry.label for entry in found.entries)
    say(f"{len(found):,} files, {fakes:,} fake and {len(found) - fakes:,} real: {output}")
    columns = [np.array([getattr(entry, name) for entry in found.entries], dtype=object) for name in _LEAK_COLUMNS]
    split, source, identity, dataset = columns
    findings = leakage(split, source, identity, families(dataset))
    problems = list(found.problems.problems)
    if near_duplicates:
        more, unreadable = find_duplicates(found)
        findings += more
        problems += unreadable.problems
    print_findings(findings)
    for problem in problems:
        say(problem.sentence)
    finish(findings, problems=len(problems), strict=strict)


def check_claim(
    claim: Annotated[Path, typer.Argument(metavar="TOML", help="A published table, typed in; see docs/evaluation.md.")],
    json_out: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Can these published numbers be true? Exit 3 when they contradict each other or good practice."""
    needs_extra()
    from faceproof.evaluation import claims

    findings = claims.check_claim(claims.read_claim(claim))
    if json_out:
        import json

        sys.stdout.write(json.dumps([finding.model_dump(mode="json") for finding in findings], indent=2) + "\n")
    else:
        print_findings(findings)
        if not findings:
            show("Nothing in this table contradicts itself. That does not make it true.")
    finish(findings, problems=0, strict=True)


def accuracy(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A labelled folder with a manifest.csv, or a manifest.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MD", help="The page to write.")] = Path(
        "docs/accuracy.md"
    ),
    detector: Annotated[list[str] | None, typer.Option("--detector", "-d", help="Only these; repeatable.")] = None,
    frames: Frames = "auto",
    robustness: Annotated[
        str, typer.Option(metavar="LIST", help="Degradations to sweep on stills, all or none.")
    ] = "all",
    video_robustness: Annotated[
        str, typer.Option(metavar="LIST", help="Degradations to sweep on videos, all or none; one costs fifty stills.")
    ] = "h264,downscale",
    robustness_files: RobustnessFiles = 5,
    protocol: Annotated[bool, typer.Option("--deepfakebench", help="Add the DeepfakeBench protocol.")] = False,
    chosen_here: Annotated[
        bool, typer.Option("--chosen-here", help="Say that checkpoints were chosen on this set.")
    ] = False,
    beside_spec: Annotated[
        bool, typer.Option("--beside-spec", help="Also keep beside each detector's spec what report pages tell of it.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="WORDS", help="What to call the data on the pages; its folder if absent.")
    ] = None,
    max_false_alarms: Alarms = 0.05,
    bootstraps: Bootstraps = 1000,
    seed: Seed = 0,
    jobs: Jobs = 1,
    threads: Threads = None,
    cache: Cache = None,
    no_cache: NoCache = False,
) -> None:
    """Measure every detector that has weights and write the accuracy page. Run again, it goes on where it stopped."""
    needs_extra()
    from dataclasses import replace

    from faceproof.evaluation import accuracy as page
    from faceproof.evaluation.evaluation import Settings
    from faceproof.evaluation.runs import open_manifest

    check_rates("--max-false-alarms", max_false_alarms)
    swept = {"image": degradations(robustness), "video": degradations(video_robustness)}
    listed = open_manifest(data)
    check_writable(output.parent)
    called = name or name_of(data)
    names = detector or page.detectors_with_weights()
    run = replace(
        detector_run(None, frames, jobs, threads, cache, no_cache),
        robustness_files=robustness_files,
        deepfakebench=protocol,
    )
    settings = Settings(resamples=bootstraps, seed=seed, max_false_alarms=max_false_alarms)
    with progress(kept=run.cache is not None) as announce:
        measured = page.measure(
            listed,
            names,
            run,
            settings=settings,
            data=called,
            robustness=swept,
            announce=announce,
        )
    page.write_accuracy(
        output, page.page(measured, listed, data=called, command=command_line(), chosen_here=chosen_here)
    )
    say(f"Written: {output}")
    if beside_spec:
        for path in page.keep_beside_specs(measured, command=command_line(), chosen_here=chosen_here):
            say(f"Written: {path}")
    finish([], problems=sum(len(item.evaluation.problems) for item in measured), strict=False)


_LEAK_COLUMNS = ("split", "source_video", "identity", "dataset")
