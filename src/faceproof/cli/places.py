"""Where results go, looked at before the work: nothing that is judged is ever written over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def check_targets(targets: Mapping[str, Path | None], inputs: Iterable[Path] = ()) -> None:
    """``targets`` by the option that named them; None and ``-`` are passed over. ``inputs`` are what is read.

    A page or a table under a picture's or video's name is a slip (``--report a.jpg b.jpg``), and the picture would be gone.

    Raises :class:`faceproof.errors.OptionError` for such a name, for a target that is also an input, and for two options
    with one target; :class:`faceproof.errors.OutputError` where nothing can be written.
    """
    from faceproof.cli.terminal import typed
    from faceproof.errors import OptionError
    from faceproof.media import is_media_name
    from faceproof.result_files import check_place

    read = list(inputs)
    taken: dict[Path, str] = {}
    for option, place in targets.items():
        if place is None or str(place) == "-":
            continue
        check_place(place)
        if place.exists() and not place.is_file():
            continue  # a device or a pipe loses nothing, and takes several
        if is_media_name(place):
            raise OptionError(
                f"{option} would write over a picture or video: {typed(str(place))}",
                remedy=f"{option} takes the name of the file to write, before the files to read.",
            )
        if place.exists() and any(one.exists() and place.samefile(one) for one in read):
            raise OptionError(
                f"{option} would write over {typed(str(place))}, which it is made from", remedy="Give another name."
            )
        where = place.resolve()
        if where in taken:
            raise OptionError(
                f"{taken[where]} and {option} would both write {typed(str(place))}", remedy="Give each its own name."
            )
        taken[where] = option


class EvidenceFolders:
    """Tells the pictures of evidence that earlier scans kept (faces, heatmaps) from pictures that arrived."""

    def __init__(self) -> None:
        self._known: dict[Path, bool] = {}

    def hold(self, path: Path) -> bool:
        """Whether the file lies in a folder that ``--evidence`` wrote."""
        place = path.absolute().parent
        return self._is_one(place) or self._is_one(place.parent)

    def _is_one(self, folder: Path) -> bool:
        known = self._known.get(folder)
        if known is None:
            known = all((folder / name).is_file() for name in ("manifest.json", "provenance.json", "report.json"))
            self._known[folder] = known
        return known


def tell_passed_over(paths: list[Path], kept_before: int = 0) -> None:
    """Nothing in a folder goes unseen without a word. ``kept_before``: pictures of evidence."""
    from collections import Counter

    from faceproof.cli.terminal import one_line, say

    if kept_before:
        pictures = "1 picture" if kept_before == 1 else f"{kept_before} pictures"
        say(f"Passed over {pictures} in evidence of earlier scans.")
    if not paths:
        return
    endings = Counter(one_line(path.suffix.lower()) or "no ending" for path in paths)
    kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
    say(
        f"Passed over {len(paths)} {'file' if len(paths) == 1 else 'files'} whose names are not those of pictures or videos "
        f"({kinds}{', …' if len(endings) > 5 else ''}); name a file itself to have it opened."
    )
