import re

import pytest

from faceproof.detectors.spec import parse_spec, read_spec, spec_sha256
from faceproof.errors import SpecError

MINIMAL = """
schema_version = 1
name = "toy"
version = "1"
summary = "A toy."
[licence]
weights = "none"
code = "Apache-2.0"
commercial = true
origin = "tests"
[input]
size = 64
[output]
fake_is = "high"
"""


def test_a_minimal_spec_reads() -> None:
    spec = parse_spec(MINIMAL)
    assert spec.name == "toy"
    assert spec.aggregate.file.method == "worst_track"
    assert spec.verdict.no_face == "not_assessed"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('fake_is = "high"', 'fake_is = "hihg"'), "output.fake_is"),
        (('fake_is = "high"', 'fake_is = "high"\nfakeis = 1'), "output.fakeis: unknown key"),
        (("size = 64", "sise = 64"), "input.sise: unknown key"),
        (("size = 64", "size = 64\nstd = [0, 1, 1]"), "std must be positive"),
        (('name = "toy"', 'name = "../toy"'), "name"),
        (("schema_version = 1", "schema_version = 2"), "schema_version"),
        (("[input]", "[input"), "not TOML"),
        (("[output]", "[calibration]\nmethod='temperature'\na=-1\n[output]"), "a must be positive"),
        (("[output]", "[verdict]\nthreshold=0.5\nband=[0.6,0.9]\n[output]"), "band must hold the threshold"),
    ],
)
def test_every_mistake_is_named(change: tuple[str, str], named: str) -> None:
    with pytest.raises(SpecError, match=re.escape(named)):
        parse_spec(MINIMAL.replace(*change))


def test_polarity_has_no_default() -> None:
    with pytest.raises(SpecError, match=r"output\.fake_is"):
        parse_spec(MINIMAL.replace('fake_is = "high"', ""))


def test_the_hash_follows_meaning_not_spelling() -> None:
    spec = parse_spec(MINIMAL)
    assert spec_sha256(spec) == spec_sha256(parse_spec("# a comment\n" + MINIMAL.replace("size = 64", "size  =  64")))
    assert spec_sha256(spec) != spec_sha256(parse_spec(MINIMAL.replace("size = 64", "size = 65")))


def test_a_missing_file_is_a_spec_error(tmp_path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        read_spec(tmp_path / "none.toml")


def test_the_page_on_specs_names_every_key_and_method() -> None:
    from pathlib import Path

    from pydantic import BaseModel

    from faceproof.detectors.aggregate import METHODS
    from faceproof.detectors.spec import DetectorSpec

    def keys(model: type[BaseModel]) -> set[str]:
        found = set(model.model_fields)
        for field in model.model_fields.values():
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, BaseModel) and "numbers" not in dir(kind):
                    found |= keys(kind)
        return found

    page = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
    for word in keys(DetectorSpec) | set(METHODS):
        assert f"`{word}" in page or f"[{word}]" in page or f"{word}," in page or f"{word} " in page, word
