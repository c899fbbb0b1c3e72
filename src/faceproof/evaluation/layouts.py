"""Manifests from the folders in which the public datasets come.

Each reader knows where its dataset keeps labels, methods, sources, identities and the official split, so that nobody
types them wrong. A swapped clip's ``identity`` joins both people with ``+``: leakage is checked on each of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from faceproof.errors import DatasetError
from faceproof.evaluation.manifest import FAKE_WORDS, REAL_WORDS, Entry, Manifest
from faceproof.evaluation.problems import ProblemLog
from faceproof.media.files import media_kind

Reader = Callable[[Path, ProblemLog], Iterator[Entry]]


def read_layout(folder: Path, layout: str = "auto") -> Manifest:
    """Build a manifest from a dataset's folder.

    ``layout`` is a key of :data:`LAYOUTS` or ``auto``, which looks for each dataset's own marks and falls back to plain
    ``real/`` and ``fake/`` folders. Raises :class:`DatasetError` for an unknown layout, a folder that does not
    look like it, or one without any labelled file.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", remedy="Give the folder that holds the dataset.")
    folder = folder.resolve()
    name = detect_layout(folder) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise DatasetError(f"unknown layout {layout!r}", remedy=f"Use auto, {', '.join(LAYOUTS)}.")
    problems = ProblemLog()
    entries = tuple(sorted(LAYOUTS[name](folder, problems), key=lambda entry: str(entry.path)))
    if not entries:
        raise DatasetError(
            f"no labelled picture or video in {folder} as layout {name}",
            remedy="Name the layout with --layout, or write a manifest CSV with path,label.",
        )
    return Manifest(entries, folder, problems)


def detect_layout(folder: Path) -> str:
    """The key of :data:`LAYOUTS` whose marks ``folder`` carries; ``plain`` when there are none."""

    def has(*names: str) -> bool:
        return any((folder / name).is_dir() for name in names)

    if (folder / "manipulated_sequences" / "DeepFakeDetection").is_dir() and not has(
        "manipulated_sequences/Deepfakes", "manipulated_sequences/Face2Face"
    ):
        return "dfd"
    if has("original_sequences", "manipulated_sequences"):
        return "faceforensics"
    if has("Celeb-synthesis"):
        fakes = sum(1 for _ in (folder / "Celeb-synthesis").iterdir())
        return "celeb-df-v2" if fakes > CELEB_DF_V1_FAKES else "celeb-df-v1"
    if next(folder.rglob("metadata.json"), None) is not None:
        return "dfdc"
    if has("real_train", "fake_train", "real_test", "fake_test"):
        return "wilddeepfake"
    if has("fake") and has("real") and next((folder / "fake").glob("*_fake.*"), None) is not None:
        return "uadfv"
    return "plain"


CELEB_DF_V1_FAKES = 795
"""Celeb-DF v1 has 795 forged clips, v2 has 5,639 (Li et al., CVPR 2020)."""


def _media(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if media_kind(path) and path.is_file())


def _faceforensics(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    """FaceForensics++ (Rössler et al., ICCV 2019): ``*_sequences/METHOD/QUALITY/videos/TARGET_SOURCE.mp4``, the
    official split from ``splits/{train,val,test}.json`` where it lies beside them."""
    splits = _faceforensics_splits(folder)
    for path in _media(folder):
        place = path.relative_to(folder).parts
        if len(place) < 5 or place[0] not in ("original_sequences", "manipulated_sequences"):
            problems.add("unlabelled_file", path.relative_to(folder).as_posix())
            continue
        fake, method, quality = place[0] == "manipulated_sequences", place[1], place[2]
        # Extracted frames lie one folder deeper; the clip's name is then the folder's.
        clip = path.stem if media_kind(path) == "video" else path.parent.name
        if method in ("actors", "DeepFakeDetection"):
            yield _dfd_entry(path, clip, quality, fake=fake)
            continue
        people = clip.split("_")
        yield Entry(
            path,
            int(fake),
            f"FaceForensics++ {quality}",
            method if fake else "original",
            people[0],
            "+".join(people),
            splits.get(people[0], ""),
        )


def _faceforensics_splits(folder: Path) -> dict[str, str]:
    found = {}
    for split in ("train", "val", "test"):
        for place in (folder / "splits" / f"{split}.json", folder / f"{split}.json"):
            if place.is_file():
                for pair in _read_json(place):
                    found.update({str(clip): split for clip in pair})
    return found


def _dfd_entry(path: Path, clip: str, quality: str, *, fake: bool) -> Entry:
    """DeepFakeDetection (Google, Jigsaw 2019): ``01_02__scene__CODE`` puts actor 02's face on actor 01."""
    people, _, rest = clip.partition("__")
    scene = rest.rsplit("__", 1)[0] if fake else rest
    target = people.split("_")[0]
    return Entry(
        path,
        int(fake),
        f"DFD {quality}",
        "DeepFakeDetection" if fake else "original",
        f"{target}__{scene}",
        "+".join(people.split("_")),
    )


def _dfd(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    return _faceforensics(folder, problems)


def _celeb_df(dataset: str) -> Reader:
    """Celeb-DF: ``Celeb-synthesis/id0_id1_0000.mp4`` puts id1's face on ``Celeb-real/id0_0000.mp4``. In its list of
    test videos 1 means real; the folder says the same without the trap, so only the names are read from it."""

    def read(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
        listing = folder / "List_of_testing_videos.txt"
        tested: set[str] | None = None
        if listing.is_file():
            tested = {line.split()[-1] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()}
        for path in _media(folder):
            place = path.relative_to(folder)
            part, clip = place.parts[0], path.stem
            split = "" if tested is None else ("test" if place.as_posix() in tested else "train")
            if part == "Celeb-synthesis":
                target, _, rest = clip.partition("_")
                source, _, number = rest.rpartition("_")
                yield Entry(path, 1, dataset, "synthesis", f"{target}_{number}", f"{target}+{source}", split)
            elif part == "Celeb-real":
                yield Entry(path, 0, dataset, "original", clip, clip.partition("_")[0], split)
            elif part == "YouTube-real":
                yield Entry(path, 0, dataset, "original", f"youtube_{clip}", "", split)
            else:
                problems.add("unlabelled_file", place.as_posix())

    return read


def _dfdc(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    """DFDC (Dolhansky et al., 2020): every part has a ``metadata.json`` of label, split and original."""
    for metadata in sorted(folder.rglob("metadata.json")):
        for name, facts in sorted(_read_json(metadata).items()):
            path = metadata.parent / name
            if not path.is_file():
                problems.add("missing_file", path.relative_to(folder).as_posix())
                continue
            word = str(facts.get("label", "")).upper()
            if word not in ("FAKE", "REAL"):
                problems.add("unknown_label", f"{path.relative_to(folder).as_posix()} ({word or 'empty'})")
                continue
            source = facts.get("original") or name
            method = "fake" if word == "FAKE" else "original"
            split = str(facts.get("split") or "")
            yield Entry(path, int(word == "FAKE"), "DFDC", method, Path(source).stem, "", split)


def _uadfv(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    """UADFV (Li, Chang, Lyu, 2018): ``real/0000.mp4`` and the forgery made from it, ``fake/0000_fake.mp4``."""
    for entry in _plain(folder, problems):
        clip = entry.path.stem if media_kind(entry.path) == "video" else entry.path.parent.name
        source = re.sub(r"_fake$", "", clip)
        yield Entry(entry.path, entry.label, "UADFV", "FakeApp" if entry.label else "original", source)


def _wilddeepfake(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    """WildDeepfake (Zi et al., 2020): crops in ``{real,fake}_{train,test}/VIDEO/{real,fake}/SEQUENCE/FRAME.png``."""
    for path in _media(folder):
        place = path.relative_to(folder).parts
        found = re.fullmatch(r"(real|fake)_(train|test)", place[0])
        if found is None or len(place) < 3:
            problems.add("unlabelled_file", "/".join(place))
            continue
        fake = found[1] == "fake"
        yield Entry(
            path, int(fake), "WildDeepfake", "wild" if fake else "original", f"{place[0]}/{place[1]}", split=found[2]
        )


def _plain(folder: Path, problems: ProblemLog) -> Iterator[Entry]:
    """Any tree with a folder named real or fake (or original, deepfake, ...) above each file. A folder between it and
    the file names the method."""
    for path in _media(folder):
        place = path.relative_to(folder).parts
        for depth, part in enumerate(place[:-1]):
            word = part.lower()
            if word in FAKE_WORDS or word in REAL_WORDS:
                fake = word in FAKE_WORDS
                inner = place[depth + 1 : -1]
                method = inner[0] if fake and inner else ("fake" if fake else "original")
                yield Entry(path, int(fake), folder.name, method)
                break
        else:
            problems.add("unlabelled_file", "/".join(place))


def _read_json(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {error}", remedy="Fetch the dataset's metadata again.") from error
    if not isinstance(content, dict | list):
        raise DatasetError(f"{path} holds no table", remedy="Fetch the dataset's metadata again.")
    return content  # type: ignore[return-value]


LAYOUTS: dict[str, Reader] = {
    "faceforensics": _faceforensics,
    "celeb-df-v1": _celeb_df("Celeb-DF v1"),
    "celeb-df-v2": _celeb_df("Celeb-DF v2"),
    "dfdc": _dfdc,
    "dfd": _dfd,
    "uadfv": _uadfv,
    "wilddeepfake": _wilddeepfake,
    "plain": _plain,
}
"""Every folder layout that can be read, by the name ``--layout`` takes."""
