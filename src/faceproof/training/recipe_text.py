"""Recipes as TOML: found by name or path, built on one another, written out in full.

A recipe with `extends = "NAME"` takes every value that it does not set itself from that recipe: tables key by key, lists
as wholes. `name` and `origin` are always its own. What a run records is the recipe in full, never the reference.
"""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceproof.errors import TrainingError

if TYPE_CHECKING:
    from faceproof.training.recipe import Recipe

_OWN = ("name", "origin")


def recipe_names() -> list[str]:
    """Names of the recipes that ship."""
    return sorted(entry.name[:-5] for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The table of a recipe that ships or of a TOML file, with everything it extends put in.

    A path after `extends` is relative to the file that names it. Raises TrainingError for a recipe that is not there, bad
    TOML, or recipes that extend each other.
    """
    place = _find(name, None)
    if place is None:
        what = f"file {name}" if Path(name).suffix == ".toml" else repr(str(name))
        raise TrainingError(f"There is no recipe {what}", remedy=_known())
    tables, seen = [], [place]
    while True:
        table = _parse(place)
        tables.append(table)
        parent = table.pop("extends", None)
        if parent is None:
            break
        if not isinstance(parent, str):
            raise TrainingError(
                f"Recipe {_title(place)} extends {parent!r}, which is neither a name nor a path", remedy=_known()
            )
        found = _find(parent, place)
        if found is None:
            raise TrainingError(f"Recipe {_title(place)} extends {parent!r}, which is not there", remedy=_known())
        if found in seen:
            circle = " → ".join(_title(one) for one in [*seen[seen.index(found) :], found])
            raise TrainingError(f"Recipes extend each other: {circle}", remedy="Take one `extends` out.")
        place = found
        seen.append(place)
    merged = tables[-1]
    for table in reversed(tables[:-1]):
        merged = _merge({key: value for key, value in merged.items() if key not in _OWN}, table)
    return merged


def recipe_to_toml(recipe: Recipe) -> str:
    """A recipe with every key, as TOML that `load_recipe` reads back as the same recipe; unset keys are left out."""
    plain: list[str] = []
    tables: list[str] = []
    for key, value in recipe.model_dump(mode="json").items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *_lines(value)]
        elif value and isinstance(value, list) and isinstance(value[0], dict):
            for one in value:
                tables += ["", f"[[{key}]]", *_lines(one)]
        else:
            plain += _lines({key: value})
    return "\n".join([*plain, *tables, ""])


def _lines(table: dict[str, Any]) -> list[str]:
    # JSON's strings, numbers, booleans and lists are TOML's too; TOML has no null
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if value is not None]


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _shipped() -> Traversable:
    return resources.files("faceproof.training") / "recipes"


def _find(name: str | Path, beside: Traversable | Path | None) -> Traversable | Path | None:
    """A recipe's file: a path where the name ends in .toml, seen from the file `beside`; else one that ships."""
    if Path(name).suffix == ".toml":
        path = Path(name) if beside is None else Path(str(beside)).parent / name
        return path.resolve() if path.is_file() else None
    found = _shipped() / f"{name}.toml"
    return found if found.is_file() else None


def _parse(place: Traversable | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"Recipe {_title(place)} is not valid TOML: {error}") from error


def _title(place: Traversable | Path) -> str:
    return str(place) if isinstance(place, Path) and place.parent != Path(str(_shipped())) else place.name[:-5]


def _known() -> str:
    return f"Recipes that ship: {', '.join(recipe_names())}."
