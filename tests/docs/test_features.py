"""Every feature of the documents has a row, and every place a row names exists."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

import faceproof
from faceproof.detectors import catalog
from faceproof.detectors.spec import DetectorSpec
from faceproof.training.recipe import Recipe

from .test_documents import check_command, verbs

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "faceproof"
PAGE = ROOT / "docs" / "features.md"
# Lines of the documents: how many each of the five has, and one about the service around them.
COUNTED = {"000": 14, "001": 15, "002": 11, "003": 11, "004": 11, "O": 1}
# What the documents call things, and values: words of the page that name no place.
WORDS = {
    "model_name", "metadata", "is_deepfake", "confidence", "inference_time", "attention_maps", "module.", "encoder",
    "image_size", "scaled_dot_product_attention", "X-API-Key", "history",
}  # fmt: skip

ROWS = {
    match[1]: match[2]
    for match in re.finditer(r"^\| ([0-9O]+-\d+) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_every_line_of_the_documents_has_one_row() -> None:
    wanted = [f"{document}-{line}" for document, lines in COUNTED.items() for line in range(1, lines + 1)]
    found = re.findall(r"^\| ([0-9O]+-\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == wanted


@pytest.mark.parametrize("number", ROWS)
def test_a_rows_places_exist(number: str) -> None:
    here = ROWS[number].split("|", 1)[1]
    places = [span for span in re.findall(r"`([^`]+)`", here) if span not in WORDS]
    pages = re.findall(r"\]\(([^)#]+)\)", here)
    assert places or pages, f"{number} names no place"
    for page in pages:
        assert (PAGE.parent / page).exists(), f"{number}: {page}"
    for place in places:
        assert exists(place), f"{number} names `{place}`, which is nowhere"


def exists(place: str) -> bool:
    """Whether a file, name, command, table, detector, method or address of that name is in the project."""
    path, _, name = place.partition("::")
    if re.fullmatch(r"[\w/.-]+(\.py|\.toml|/)|(deploy|training)/\w+", path):
        found = find_file(path)
        return found is not None and (not name or name in defined(found))
    if re.match(r"(POST )?/\w", place):
        method, _, path = place.rpartition(" ")
        return any(path == route and (not method or method in methods) for route, methods in routes())
    if place.startswith("python -m "):
        return (ROOT / place.split()[2].replace(".", "/")).with_suffix(".py").is_file()
    words = place.removeprefix("faceproof ").split()
    if place.startswith(("faceproof ", "--")) or words[0] in verbs():
        check_command(["faceproof", *(words if not place.startswith("--") else ["scan", *words])], where=place)
        return True
    if place.startswith("[") or re.fullmatch(r"[a-z_]+\.[a-z_]+", place) or " = " in place:
        return is_field(place) or dotted(place)
    return dotted(place) or place in {i.spec.name for i in catalog.installed_specs()} or is_value(place)


@cache
def routes() -> list[tuple[str, set[str]]]:
    """Addresses of the service and what may be asked of them."""
    from faceproof.service import routes_jobs, routes_results, routes_site

    return [
        (route.path, set(route.methods))
        for room in (routes_jobs, routes_results, routes_site)
        for route in room.router.routes
        if isinstance(route, APIRoute)
    ]


def find_file(path: str) -> Path | None:
    for start in (PACKAGE, PACKAGE / "detectors", PACKAGE / "training" / "importing", ROOT):
        if (start / path).exists():
            return start / path
    return None


def defined(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def is_field(place: str) -> bool:
    """A table or key of a detector's record or of a recipe."""
    if " = " in place:
        key = next(iter(tomllib.loads(place)))
        return any(key in table.model_fields for table in tables(DetectorSpec))
    table, _, key = place.strip("[]").partition(".")
    for record in (DetectorSpec, Recipe):
        if table in record.model_fields:
            kind = get_type_hints(record)[table]
            return not key or key in kind.model_fields
    return False


def tables(record: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [hint for hint in get_type_hints(record).values() if isinstance(hint, type) and issubclass(hint, BaseModel)]
    return [record, *(table for one in inner for table in tables(one))]


@cache
def everywhere() -> set[str]:
    return {found for file in PACKAGE.rglob("*.py") for found in defined(file)}


def dotted(place: str) -> bool:
    """A name that a module defines, or a call or method of one: `results.Report`, `Detector.score`, `.analyze(…)`."""
    bare = place.partition("(")[0].lstrip(".")
    owner, _, name = bare.rpartition(".")
    if owner and (file := find_file(f"{owner}.py")):
        return name in defined(file)
    return all(part in everywhere() or hasattr(faceproof, part) for part in bare.split("."))


def is_value(place: str) -> bool:
    """An aggregation method or an option of training, as records name them."""
    from faceproof.detectors.aggregate import METHODS

    return place in METHODS or any(place in table.model_fields for table in tables(Recipe))
