"""Whether what happens between neighbouring frames tells forgeries from genuine videos, alone and beside the mean score.

    python -m benchmarks.temporal DATA [--genuine FACES] [--bursts 6] [--length 9] [--cache FOLDER] [--out FILE]

DATA is a manifest or a labelled folder; its videos are read, never fitted to. Of each video some bursts of neighbouring
frames are taken, and of the person seen in most of them every measure of :mod:`benchmarks.bursts` (its median over bursts).
More is taken to mean forged: no direction, weight or scale is chosen by the labels. "Over own" is the share of forgeries
whose measure lies above that of the genuine video of the same source. Intervals (95 %) resample source videos.

With ``--genuine`` (a folder of face shards, as training reads them) each measure is also added to the logit of the mean
score, with weight ¼ and both in units of their spread (quartile distance / 1.349) over genuine clips made of people held
out of training; "gain" is what that adds to the mean score's AUROC. "Gain, own scale" takes the spreads from DATA, all
videos together, as a check on the scale. Milliseconds are CPU time of all threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from benchmarks import bursts as room
from benchmarks.bursts import CUES, Burst, Track, align, follow, log_odds, read, read_tracks
from faceproof.detectors.detector import Detector, load_detector
from faceproof.evaluation.bootstrap import Estimate, auroc_estimate
from faceproof.evaluation.manifest import Entry
from faceproof.evaluation.metrics import auroc
from faceproof.evaluation.runs import open_manifest
from faceproof.evaluation.significance import bootstrap_difference
from faceproof.faces import FaceDetector

WEIGHT = 0.25
RESAMPLES = 2000
TOGETHER = "all of them"
Column = npt.NDArray[np.float64]


@dataclass
class Video:
    """What was measured on one person of one file. NaN stands for a measure that no burst gave."""

    name: str
    label: int
    method: str
    source: str
    p: list[float]
    cues: dict[str, float]
    bursts: int
    ms: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Logit of the mean P(fake) of all frames of all bursts."""
        return float(log_odds([np.mean(self.p)])[0])


def finder_for(detector: Detector) -> FaceDetector:
    faces = detector.spec.faces
    return FaceDetector(thresholds=faces.thresholds, min_face=faces.min_face)


def main_person(tracks: list[Track]) -> Track | None:
    """The person with most bursts, the larger face where two have as many."""
    return max(tracks, key=lambda track: (len(track.bursts), track.side), default=None)


def measure(
    track: Track, detector: Detector, lost: Counter[str]
) -> tuple[list[float], dict[str, float], dict[str, float]]:
    """P(fake) of every face, the median of each cue over the bursts, and CPU milliseconds by step."""
    p: list[float] = []
    found: list[dict[str, float]] = []
    ms = {"align": 0.0, "measures and network": 0.0}
    for burst in track.bursts:
        began = time.process_time()
        face = align(burst)
        ms["align"] += 1000 * (time.process_time() - began)
        if face is None:
            lost["the frames could not be aligned"] += 1
            continue
        began = time.process_time()
        reading = read(burst, face, detector)
        ms["measures and network"] += 1000 * (time.process_time() - began)
        p += reading.p.tolist()
        found.append(reading.cues)
    return p, {name: float(np.median([cues[name] for cues in found])) for name in (found[0] if found else ())}, ms


# -- footage ------------------------------------------------------------------------------------------------------


def tracks_of(
    path: Path, finder: FaceDetector, options: argparse.Namespace, lost: Counter[str]
) -> tuple[list[Track], float]:
    """The people of a video, from the cache where they lie there, and the CPU milliseconds that finding them took."""
    if options.cache is None:
        began = time.process_time()
        tracks = read_tracks(path, finder, bursts=options.bursts, length=options.length, lost=lost)
        return tracks, 1000 * (time.process_time() - began)
    here = [path.resolve(), path.stat().st_size, options.bursts, options.length, finder.thresholds, finder.min_face]
    kept = options.cache / f"{path.stem}-{hashlib.sha256(repr((here, room.WINDOW)).encode()).hexdigest()[:12]}.npz"
    if not kept.is_file():
        own: Counter[str] = Counter()
        began = time.process_time()
        tracks = read_tracks(path, finder, bursts=options.bursts, length=options.length, lost=own)
        spent = 1000 * (time.process_time() - began)
        keep(kept, tracks, own, spent)
    tracks, own, spent = kept_tracks(kept)
    lost.update(own)
    return tracks, spent


def keep(path: Path, tracks: list[Track], lost: Counter[str], ms: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"notes": np.array(json.dumps([dict(lost), ms]))}
    for i, track in enumerate(tracks):
        for j, burst in enumerate(track.bursts):
            for name, values in asdict(burst).items():
                arrays[f"{i}/{j}/{name}"] = np.asarray(values)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def kept_tracks(path: Path) -> tuple[list[Track], Counter[str], float]:
    with np.load(path, allow_pickle=False) as stored:
        lost, ms = json.loads(str(stored["notes"]))
        tracks: dict[int, Track] = {}
        for i, j in sorted({tuple(map(int, name.split("/")[:2])) for name in stored.files if "/" in name}):
            one = {name: stored[f"{i}/{j}/{name}"] for name in ("images", "points", "boxes")}
            x0, y0, x1, y1 = (int(edge) for edge in stored[f"{i}/{j}/seen"])
            tracks.setdefault(i, Track()).bursts.append(Burst(**one, seen=(x0, y0, x1, y1)))
    return list(tracks.values()), Counter(lost), float(ms)


def labelled(options: argparse.Namespace, detector: Detector, lost: Counter[str]) -> Iterator[Video]:
    """Every video of the manifest in which somebody could be measured."""
    finder = finder_for(detector)
    entries = open_manifest(options.data).only(media="video").entries
    # By source, so that a few are a few whole sources.
    for entry in sorted(entries, key=lambda entry: (entry.source_video, entry.path))[: options.limit]:
        name = f"{entry.path.resolve()}|{entry.path.stat().st_size}|{options.bursts}|{options.length}"

        def made(entry: Entry = entry) -> tuple[Video | None, Counter[str]]:
            own: Counter[str] = Counter()
            tracks, spent = tracks_of(entry.path, finder, options, own)
            person = main_person(tracks)
            source = entry.source_video or entry.path.stem
            if person is None:
                return None, own + Counter(["nobody in the video"])
            p, cues, ms = measure(person, detector, own)
            if not p:
                return None, own
            ms = {"find, of the whole video": spent, **ms}
            return Video(entry.path.stem, entry.label, entry.method, source, p, cues, len(person.bursts), ms), own

        video = once(options.cache, f"{name}|{finder.thresholds}|{finder.min_face}", detector, made, lost)
        if video is not None:
            yield video


def self_made(options: argparse.Namespace, detector: Detector, lost: Counter[str]) -> Iterator[Video]:
    """Genuine clips of people held out of training, a burst each: one of every picture, spread over the folder."""
    from faceproof.training import footage, pairs, selfblend
    from faceproof.training.degrade import DegradeOptions
    from faceproof.training.recipe import load_recipe
    from faceproof.training.shards import FaceStore

    table = load_recipe("faceproof-small").pairs
    store = FaceStore(options.genuine, "held_out", table.held_out)
    how = pairs.PairOptions(
        crop=(1.5, 1.5),
        jitter=0.0,
        blend=selfblend.BlendOptions(swap=table.swap, reenact=table.reenact),
        degrade=DegradeOptions(codec=table.codec, crf=table.crf),
    )
    wanted = footage.FootageOptions(options.length, side=(96.0, 256.0))
    finder = finder_for(detector)
    for index in np.linspace(0, len(store) - 1, min(options.clips, len(store))).astype(int):

        def made(index: int = int(index)) -> tuple[Video | None, Counter[str]]:
            own: Counter[str] = Counter()
            clip, _ = footage.make_clips(store, index, 0, how, wanted)
            frames = [np.ascontiguousarray(one) for one in clip.frames]
            faces = finder.detect(frames[len(frames) // 2])
            burst = follow(frames, faces[0], finder) if faces else None
            if burst is None:
                return None, Counter(["the face could not be followed"])
            p, cues, ms = measure(Track([burst]), detector, own)
            return Video(clip.name, 0, "self-made", clip.source, p, cues, 1, ms) if p else None, own

        video = once(options.cache, f"{store.identities[index]}#{index}|{how}|{wanted}", detector, made, lost)
        if video is not None:
            yield video


def once(
    cache: Path | None,
    name: str,
    detector: Detector,
    made: Callable[[], tuple[Video | None, Counter[str]]],
    lost: Counter[str],
) -> Video | None:
    """What ``made`` measures, from an earlier run where the measures and the detector are the same."""
    if cache is None:
        video, own = made()
        lost.update(own)
        return video
    code = hashlib.sha256(Path(room.__file__).read_bytes()).hexdigest()
    kept = cache / f"{hashlib.sha256(repr((name, code, detector.spec_sha256)).encode()).hexdigest()[:20]}.json"
    if not kept.is_file():
        video, own = made()
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps([video and asdict(video), dict(own)]))
        part.replace(kept)
    stored, told = json.loads(kept.read_text())
    lost.update(told)
    return Video(**stored) if stored else None


# -- the table ----------------------------------------------------------------------------------------------------


def spread(values: Column) -> float:
    """Distance of the quartiles / 1.349: the standard deviation where values are normal."""
    low, high = np.nanpercentile(values, [25, 75])
    return max(float(high - low) / 1.349, 1e-9)


def columns(videos: list[Video]) -> dict[str, Column]:
    """The values of every cue that every video gave, in the order of the videos."""
    names = [name for name in CUES if all(name in video.cues for video in videos)]
    return {name: np.array([video.cues[name] for video in videos]) for name in names}


def beside(score: Column, cue: Column, scale: tuple[float, float]) -> Column:
    """The mean score and ¼ of the cue, each over its spread (score's, cue's)."""
    return score / scale[0] + WEIGHT * cue / scale[1]


def over_own(cue: Column, label: npt.NDArray[np.int64], source: npt.NDArray[np.str_]) -> float:
    """Share of forgeries above the genuine video of the same source; ties count half, sources without one not at all."""
    won = [
        (cue[i] > cue[j]) + 0.5 * (cue[i] == cue[j])
        for i in np.flatnonzero(label == 1)
        for j in np.flatnonzero((label == 0) & (source == source[i]))
    ]
    return float(np.mean(won)) if won else float("nan")


def ranks_together(one: Column, other: Column) -> float:
    """Spearman's correlation."""
    return float(spearmanr(one, other).statistic)


@dataclass
class Row:
    """What one cue came to."""

    name: str
    alone: Estimate
    by_method: dict[str, float]
    over_own: float
    with_score: float
    joint: float | None = None
    gain: Estimate | None = None
    gain_own_scale: Estimate | None = None


def rows_of(videos: list[Video], genuine: list[Video]) -> list[Row]:
    """The table: the mean score first, then every cue, then all of them together."""
    label = np.array([video.label for video in videos])
    source = np.array([video.source for video in videos])
    groups = np.unique(source, return_inverse=True)[1]
    method = np.array([video.method for video in videos])
    score = np.array([video.score for video in videos])
    cues = columns(videos)
    made = columns(genuine) if genuine else {}
    made_score = spread(np.array([video.score for video in genuine])) if genuine else None
    scales = {name: spread(made[name]) for name in cues if name in made}
    own = {name: spread(values) for name, values in cues.items()}
    cues[TOGETHER] = np.mean([cues[name] / (scales or own)[name] for name in (scales or own)], axis=0)
    own[TOGETHER] = spread(cues[TOGETHER])
    if scales:
        scales[TOGETHER] = spread(np.mean([made[name] / scales[name] for name in scales if name in made], axis=0))

    def row(name: str, values: Column) -> Row:
        parts = {
            one: auroc(label[keep], values[keep])
            for one in sorted(map(str, set(method[label == 1])))
            if (keep := (label == 0) | (method == one)).any()
        }
        alone = auroc_estimate(label, values, groups, resamples=RESAMPLES)
        return Row(name, alone, parts, over_own(values, label, source), ranks_together(values, score))

    table = [row("mean score", score)]
    for name, values in cues.items():
        one = row(name, values)
        if made_score is not None and name in scales:
            joint = beside(score, values, (made_score, scales[name]))
            one.joint = auroc(label, joint)
            one.gain = bootstrap_difference(label, joint, score, groups, resamples=RESAMPLES)
        joint = beside(score, values, (spread(score), own[name]))
        one.gain_own_scale = bootstrap_difference(label, joint, score, groups, resamples=RESAMPLES)
        table.append(one)
    return table


def printed(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    methods = list(rows[0].by_method)
    head = ["measure", "alone", *methods, "over own", "ρ with score", "with score", "gain", "gain, own scale"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        per_method = [f"{row.by_method[name]:.2f}" for name in methods]
        joint = "" if row.joint is None else f"{row.joint:.3f}"
        gains = ["" if gain is None else signed(gain) for gain in (row.gain, row.gain_own_scale)]
        own = f"{row.over_own:.2f}"
        lines.append([row.name, str(row.alone), *per_method, own, f"{row.with_score:+.2f}", joint, *gains])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def signed(gain: Estimate) -> str:
    if gain.value is None or gain.low is None or gain.high is None:
        return str(gain)
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--detector")
    parser.add_argument("--bursts", type=int, default=6)
    parser.add_argument("--length", type=int, default=9, help="frames of a burst")
    parser.add_argument("--genuine", type=Path, help="folder with faces.csv: the scale of the measures")
    parser.add_argument("--clips", type=int, default=60, help="self-made genuine clips")
    parser.add_argument("--limit", type=int, help="no more videos than so many")
    parser.add_argument(
        "--cache", type=Path, help="where faces and numbers are kept between runs: pictures of people, keep it private"
    )
    parser.add_argument("--out", type=Path, help="write every video's numbers as JSON")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = load_detector(options.detector, precision="fp32")
    lost: Counter[str] = Counter()
    videos = list(labelled(options, detector, lost))
    lost_made: Counter[str] = Counter()
    genuine = list(self_made(options, detector, lost_made)) if options.genuine else []
    if options.out:
        options.out.write_text(json.dumps([asdict(video) for video in (*videos, *genuine)]))
    fakes = sum(video.label for video in videos)
    print(f"{len(videos)} videos, {fakes} forged, {len({video.source for video in videos})} sources; ", end="")
    print(f"{options.bursts} bursts of {options.length} frames; {len(genuine)} self-made genuine clips")
    for word, count in (*lost.items(), *((f"self-made: {word}", count) for word, count in lost_made.items())):
        print(f"left out: {word}: {count}")
    print(printed(rows_of(videos, genuine)))
    for step in videos[0].ms if videos else ():
        print(f"{step}: {np.median([video.ms[step] for video in videos]):.0f} ms a track (median)")


if __name__ == "__main__":
    main()
