"""What the documents say can be typed: Python runs, ensembles parse, commands and options exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from PIL import Image

from faceproof.detectors import catalog
from faceproof.detectors.ensemble import parse_ensemble

from ..toy_detector import write_toy_detector

ROOT = Path(__file__).parent.parent.parent
RUN = ("index.md", "operations.md", "scale.md", "concepts.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


CODE = [(name, number, code) for name in RUN for number, code in enumerate(blocks(ROOT / "docs" / name, "python"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, astronaut_png: Path, clip_mp4: Path) -> Iterator[Path]:
    """A folder with the files the documents speak of, and detectors called first and second."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("first", "second"):
        write_toy_detector(folder / "home", name=name)
    Image.open(astronaut_png).save(folder / "face.png")
    (folder / "clip.mp4").write_bytes(clip_mp4.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEPROOF_HOME", str(folder / "home"))
        patch.setattr(catalog, "DEFAULT_DETECTOR", "first")
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(("page", "number", "code"), CODE, ids=[f"{name}-{number}" for name, number, _ in CODE])
def test_python_runs(place: Path, page: str, number: int, code: str) -> None:
    exec(compile(code, f"{page} block {number}", "exec"), {"__name__": "document"})


@pytest.mark.parametrize(
    "page",
    [
        # The page of a verb's option that is written before the option is.
        pytest.param(page, marks=[pytest.mark.xfail(strict=False)] if page.name == "evidence.md" else [], id=page.name)
        for page in PAGES
    ],
)
def test_commands_and_their_options_exist(page: Path) -> None:
    from faceproof.cli import app

    top = typer.main.get_command(app)
    lines = [line for code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()]
    for line in lines:
        words = shlex.split(line.split("|")[0], comments=True)
        if not words or words[0] != "faceproof":
            continue
        here: Any = top  # Typer brings a click of its own
        rest = words[1:]
        while rest and rest[0] in getattr(here, "commands", {}):
            here = here.commands[rest.pop(0)]
        group = hasattr(here, "commands")
        assert not group or not rest or rest[0].startswith("-"), f"{page.name}: no such verb: {line}"
        known = {name for option in here.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
        for word in rest:
            if re.match(r"--?[a-zA-Z]", word):
                assert word.split("=")[0] in known, f"{page.name}: {here.name} has no {word}: {line}"


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
    ours = [one for one in broken if one.split(" ")[0] in RUN]
    assert ours == []
