"""Whether ``auto`` says what ``all`` says, and at what share of the frames.

    python -m benchmarks.sampling [FOLDER_OR_CLIP…] [--clips 16] [--every 1] [--faces thorough] [--made 8]

Scans every clip with ``auto``, then with all frames (``--every 5``: every fifth, where time is short), and compares
verdicts. ``--made`` adds clips made of scikit-image's pictures. Reports are kept in ``build/bench/sampling`` by detector
and file, so a stopped run goes on. Writes ``build/bench/sampling.json`` for the speed page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

import faceproof
from benchmarks.clips import make_clip
from benchmarks.speed import RESULTS
from faceproof.detectors.detector import Detector, load_detector
from faceproof.media import walk
from faceproof.results import Report, Verdict


def scanned(path: Path, detector: Detector, frames: str, faces: str) -> Report:
    """The report, from an earlier run where code and detector are the same."""
    code = hashlib.sha256()
    package = Path(faceproof.__file__).parent
    for room in ("", "detectors/", "faces/", "media/", "runtime/"):
        for source in sorted(package.glob(f"{room}*.py")):
            code.update(source.read_bytes())
    key = "|".join(
        [str(path.resolve()), str(path.stat().st_size), detector.spec_sha256, frames, faces, code.hexdigest()]
    )
    kept = RESULTS / "sampling" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if kept.is_file():
        return Report.model_validate_json(kept.read_text())
    report = faceproof.scan(path, detector=detector, frames=frames, faces=faces)  # type: ignore[arg-type]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(report.model_dump_json())
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--clips", type=int, help="no more than so many, evenly taken")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--faces", default="thorough")
    parser.add_argument("--made", type=int, default=0)
    parser.add_argument("--detector")
    options = parser.parse_args()
    paths = [path for path in walk(options.paths) if path.suffix in (".mp4", ".mkv", ".mov", ".avi", ".webm")]
    if options.clips and options.clips < len(paths):
        paths = [paths[round(i * (len(paths) - 1) / max(1, options.clips - 1))] for i in range(options.clips)]
    for number in range(options.made):
        faces, width, height = (1, 1, 2, 4)[number % 4], *((640, 360), (1280, 720))[number // 4 % 2]
        clip = RESULTS / f"made-{width}x{height}-{faces}-{number}.mp4"
        RESULTS.mkdir(parents=True, exist_ok=True)
        if not clip.is_file():
            make_clip(clip, width=width, height=height, faces=faces, seconds=8 + number)
        paths.append(clip)
    detector = load_detector(options.detector)
    reference = "all" if options.every == 1 else f"every:{options.every}"
    agree = opposite = looked = frames = after_first = 0
    pairs: Counter[tuple[str, str]] = Counter()
    for path in paths:
        auto, full = (scanned(path, detector, how, options.faces) for how in ("auto", reference))
        pairs[auto.verdict.value, full.verdict.value] += 1
        agree += auto.verdict is full.verdict
        opposite += {auto.verdict, full.verdict} == {Verdict.REAL, Verdict.FAKE}
        looked += auto.frames_analyzed
        frames += full.media.frame_count or 0
        after_first += auto.frames_analyzed <= 16
        told = f"{auto.score or 0:.3f} {full.score or 0:.3f}  {auto.verdict.value} {full.verdict.value}"
        print(f"{auto.frames_analyzed:>4} of {full.media.frame_count:<5} {told}  {path.name}", flush=True)
    result = {
        "clips": len(paths),
        "reference": "all" if options.every == 1 else f"every {options.every}th frame",
        "agreement": agree / len(paths),
        "opposite": opposite,
        "work": looked / frames,
        "looked": looked,
        "frames": frames,
        "after_first": after_first,
        "pairs": {f"{one} for {other}": count for (one, other), count in pairs.items() if one != other},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "sampling.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
