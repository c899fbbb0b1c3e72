"""What report pages tell of a detector was measured of the very record that ships."""

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
from faceproof.evidence.measured import SUFFIX, read_limits


def test_the_default_ships_with_what_was_measured_of_it():
    """A word changed in the record makes it another one: then `faceproof accuracy --beside-spec` must run again."""
    installed = find_spec(DEFAULT_DETECTOR)
    assert installed.source.with_suffix(SUFFIX).is_file()
    limits = read_limits(installed.spec)
    assert limits is not None, "pages would tell nobody how often this detector errs"
    assert {one.media for one in limits.sets} == {"image", "video"}
