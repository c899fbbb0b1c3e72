from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.errors import OptionError
from faceproof.media import parse_sampling

TOTALS = st.integers(0, 5000)


@given(total=TOTALS, number=st.integers(1, 6000))
def test_n_frames_are_linspace_without_repeats(total: int, number: int) -> None:
    wanted = list(parse_sampling(str(number)).indices(total))
    expected = np.unique(np.linspace(0, total - 1, number, dtype=int)).tolist() if total else []
    assert wanted == expected


@given(total=st.integers(1, 5000), number=st.integers(2, 6000))
def test_n_frames_hold_both_ends_and_keep_their_distance(total: int, number: int) -> None:
    wanted = list(parse_sampling(str(number)).indices(total))
    assert (wanted[0], wanted[-1]) == (0, total - 1)
    assert len(wanted) == min(total, number)
    steps = np.diff(wanted)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


@given(total=TOTALS, step=st.integers(1, 6000))
def test_every_k_is_a_slice(total: int, step: int) -> None:
    assert list(parse_sampling(f"every:{step}").indices(total)) == list(range(total))[::step]


@given(total=TOTALS)
def test_all_is_all(total: int) -> None:
    assert list(parse_sampling("all").indices(total)) == list(range(total))


@given(total=TOTALS, given_indices=st.lists(st.integers(0, 6000)))
def test_given_indices_are_sorted_once_each_and_within(total: int, given_indices: list[int]) -> None:
    wanted = list(parse_sampling(given_indices).indices(total))
    assert wanted == sorted({index for index in given_indices if index < total})


def test_a_huge_number_costs_nothing() -> None:
    assert len(parse_sampling("9" * 15).indices(10)) == 10


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "every:0", "every:", "every:x", "auto", "1.5", "every:2:3", "all:3", "٣"]
)
def test_nonsense_is_an_option_error(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_sampling(text)
    assert "every:10" in caught.value.remedy


def test_negative_indices_are_an_option_error() -> None:
    with pytest.raises(OptionError):
        parse_sampling([3, -1])
