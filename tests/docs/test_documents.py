"""What the documents say can be typed: Python runs, ensembles parse, commands and options exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from faceproof.detectors import catalog
from faceproof.detectors.ensemble import parse_ensemble

from ..toy_detector import write_toy_detector

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Its examples need the documents' own networks; tests/test_from_the_documents.py runs them.
ELSEWHERE = ("from-the-documents.md",)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


CODE = [
    (page.name, number, code)
    for page in PAGES
    if page.name not in ELSEWHERE
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, astronaut_png: Path, clip_mp4: Path) -> Iterator[Path]:
    """A folder with the files the documents speak of, and detectors called first and second."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("first", "second"):
        write_toy_detector(folder / "home", name=name)
    Image.open(astronaut_png).save(folder / "face.png")
    (folder / "clip.mp4").write_bytes(clip_mp4.read_bytes())
    rows = [f"clip{n}.mp4,{'fake' if n % 2 else 'real'},{(n * 37 % 100) / 100}\n" for n in range(60)]
    (folder / "scores.csv").write_text("path,label,score\n" + "".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(folder / "home"))
        patch.setattr(catalog, "DEFAULT_DETECTOR", "first")
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(("page", "number", "code"), CODE, ids=[f"{name}-{number}" for name, number, _ in CODE])
def test_python_runs(place: Path, page: str, number: int, code: str) -> None:
    face = np.asarray(Image.open(place / "face.png").convert("RGB"))
    given = {"image_rgb": face, "crops": [face[60:190, 170:280]]}  # what the reader is said to have
    exec(compile(code, f"{page} block {number}", "exec"), {"__name__": "document", **given})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    lines = [line for code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()]
    for line in lines:
        words = shlex.split(line.split("|")[0], comments=True)
        if words and words[0] == "faceproof":
            check_command(words, where=f"{page.name}: {line}")


def verbs() -> set[str]:
    """What may follow `faceproof`."""
    from faceproof.cli import app

    top: Any = typer.main.get_command(app)
    return set(top.commands)


def check_command(words: list[str], *, where: str) -> None:
    """Assert that the verb of a command line that begins with `faceproof`, and its options, exist."""
    from faceproof.cli import app

    here: Any = typer.main.get_command(app)  # Typer brings a click of its own
    rest = words[1:]
    while rest and rest[0] in getattr(here, "commands", {}):
        here = here.commands[rest.pop(0)]
    if rest and not rest[0].startswith("-"):
        here = getattr(here, "commands", {}).get("run", here)  # `train RECIPE` is short for `train run RECIPE`
    group = hasattr(here, "commands")
    assert not group or not rest or rest[0].startswith("-"), f"{where}: no such verb"
    known = {name for option in here.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    for word in rest:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.split("=")[0] in known, f"{where}: {here.name} has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_ensembles_parse(page: Path) -> None:
    for code in blocks(page, "toml"):
        if "[[members]]" in code:
            parse_ensemble(code, source=page.name)


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.name} → {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert broken == []
