"""A spec back into TOML, so that what is installed can be read and edited like what is shipped."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from faceproof.detectors.spec import DetectorSpec, Method


def spec_to_toml(spec: DetectorSpec) -> str:
    """TOML from which :func:`parse_spec` makes an equal spec. Keys at their defaults are left away."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in _chosen(spec).items():
        if key == "golden":
            tables += ["\n[[golden]]\n" + _rows(row) for row in value]
        elif isinstance(value, dict):
            tables.append(f"\n[{key}]\n" + _rows(value))
        else:
            lines.append(f"{key} = {toml_value(value)}")
    return "\n".join(lines) + "\n" + "\n".join(tables) + ("\n" if tables else "")


def _chosen(model: BaseModel) -> dict[str, Any]:
    """The model's values that are not defaults, nested models as dictionaries."""
    if isinstance(model, Method):
        return {"method": model.method, **model.numbers}
    chosen: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None or (not field.is_required() and value == field.get_default(call_default_factory=True)):
            continue
        if isinstance(value, BaseModel):
            value = _chosen(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            value = [_chosen(item) for item in value]
        chosen[name] = value
    return chosen


def _rows(table: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {toml_value(value)}" for key, value in table.items())


def toml_value(value: object) -> str:
    """One value as TOML. Raises :class:`TypeError` for what TOML has no form for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one control character that JSON leaves alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    raise TypeError(f"TOML has no {type(value).__name__}")
