"""Identities through time, on scenes staged from the astronaut and painted strangers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from faceproof.faces import Face, Tracker
from faceproof.faces.appearance import describe, likeness
from faceproof.faces.reunion import Reunion
from faceproof.faces.scenes import SceneWatch, setting_of
from faceproof.media import Frame

SIZE = (360, 640)
# The astronaut's head and shoulders, 240 × 240, with the middle and side of her face and her landmarks.
_ASTRONAUT = data.astronaut()[20:260, 105:345]
_MIDDLE, _SIDE = (118.0, 98.0), 115.0
_PLACES = np.array([[99, 81], [142, 84], [120, 108], [97, 120], [140, 122]], np.float32)


def person(number: int) -> np.ndarray:
    """The astronaut, or her features mirrored under other colours, hair and clothes."""
    if number == 0:
        return _ASTRONAUT
    draw = np.random.default_rng(number)
    lab = cv2.cvtColor(_ASTRONAUT[:, ::-1].copy(), cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[:, :, 0] = np.clip(lab[:, :, 0] * draw.uniform(0.5, 0.75) + draw.uniform(0, 40), 0, 255)
    lab[:, :, 1:] += draw.choice([-14, 14], 2) + draw.uniform(-5, 5, 2)
    picture = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    texture = cv2.resize(draw.integers(0, 60, (12, 12, 3), dtype=np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, texture)
    picture[170:] = draw.integers(0, 256, 3, dtype=np.uint8)
    picture[:50, 60:180] = draw.integers(0, 256, 3, dtype=np.uint8)
    return picture


PEOPLE = [person(number) for number in range(4)]


def backdrop(number: int) -> np.ndarray:
    draw = np.random.default_rng(100 + number)
    small = draw.integers(0, 90, (4, 6, 3), dtype=np.uint8) + draw.integers(0, 160, 3, dtype=np.uint8)
    return cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


BACKDROPS = [backdrop(number) for number in range(3)]


def stage(
    time: float, cast: Sequence[tuple[int, float, float, float]], scene: int = 0, index: int = 0
) -> tuple[Frame, list[Face]]:
    """A frame with people at (x, y) of their faces' centres and a face of the given side; later ones stand in front."""
    image = BACKDROPS[scene].copy()
    faces = []
    for number, x, y, side in cast:
        middle, places = _MIDDLE, _PLACES
        if number:
            middle = (239 - middle[0], middle[1])
            places = np.stack([239 - places[:, 0], places[:, 1]], axis=1)[[1, 0, 2, 4, 3]]
        scale = side / _SIDE
        shift = np.array([x - middle[0] * scale, y - middle[1] * scale])
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        cv2.warpAffine(PEOPLE[number], matrix, SIZE[::-1], image, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)
        box = (x - side * 0.4, y - side / 2, x + side * 0.4, y + side / 2)
        faces.append(Face(box, 1.0, (places * scale + shift).astype(np.float32)))
    return Frame(index=index, time=time, image=image), faces


def follow(shots) -> list[list[int]]:
    tracker = Tracker()
    return [tracker.update(*stage(*shot)) for shot in shots]


def people(shots) -> list[list[int]]:
    """Person by person, once everything was seen."""
    tracker = Tracker()
    ids = [tracker.update(*stage(*shot)) for shot in shots]
    known = tracker.people()
    return [[known[number] for number in row] for row in ids]


def test_staged_people_look_like_themselves_and_not_like_each_other():
    looks = [describe(frame.image, face) for frame, (face,) in (stage(0, [(n, 260, 160, 70)]) for n in range(4))]
    again = [describe(frame.image, face) for frame, (face,) in (stage(0, [(n, 200, 180, 90)]) for n in range(4))]
    for one in range(4):
        for other in range(4):
            value = likeness(looks[one], again[other])
            assert value > 3 if one == other else value < 1


def test_one_person_is_one_track_at_any_sampling():
    for step in (0.04, 0.5, 4.0, 60.0):
        ids = follow((i * step, [(0, 300 + 8 * math.sin(i), 160 + 5 * math.cos(2 * i), 70)]) for i in range(12))
        assert ids == [[1]] * 12, step


@pytest.mark.parametrize("step", [1 / 30, 0.2, 1.0])
def test_people_crossing_keep_their_identity(step):
    shots = []
    for i in range(25):
        shift = 16 * i
        shots.append((i * step, [(0, 120 + shift, 150, 70), (1, 520 - shift, 170, 74)]))
    first, second = shots[0][1][0][0], shots[0][1][1][0]
    people: dict[int, set[int]] = {}
    for shot, ids in zip(shots, follow(shots), strict=True):
        for (number, *_), track in zip(shot[1], ids, strict=True):
            people.setdefault(track, set()).add(number)
    assert all(len(numbers) == 1 for numbers in people.values())
    assert {first, second} == {number for numbers in people.values() for number in numbers}
    assert len(people) <= 2 * (2 if step < 0.1 else 4)


def test_crossing_with_one_hidden_behind_the_other():
    shots = []
    for i in range(31):
        cast = [(0, 160 + 10 * i, 160, 70), (1, 480 - 10 * i, 160, 74)]
        if abs(cast[0][1] - cast[1][1]) < 60:
            cast = cast[1:]
        shots.append((i / 30, cast))
    seen: dict[int, set[int]] = {}
    for shot, ids in zip(shots, follow(shots), strict=True):
        for (number, *_), track in zip(shot[1], ids, strict=True):
            seen.setdefault(track, set()).add(number)
    assert all(len(numbers) == 1 for numbers in seen.values())


def test_cut_starts_new_tracks_even_for_another_person_in_the_same_place():
    shots = [(i / 25, [(0, 300, 160, 80)], 0) for i in range(5)] + [
        (0.2 + i / 25, [(1, 300, 160, 80)], 1) for i in range(5)
    ]
    assert follow(shots) == [[1]] * 5 + [[2]] * 5


def test_cut_that_swaps_two_people_swaps_no_identity():
    shots = [(i * 0.5, [(0, 200, 160, 80), (1, 440, 160, 80)], 0) for i in range(4)]
    shots += [(2 + i * 0.5, [(1, 200, 160, 80), (0, 440, 160, 80)], 1) for i in range(4)]
    ids = follow(shots)
    assert ids[:4] == [[1, 2]] * 4
    assert set(ids[4]).isdisjoint({1, 2})
    assert ids[4:] == [ids[4]] * 4


def test_stranger_in_the_same_place_is_a_stranger_without_a_cut():
    for step in (0.04, 2.0):
        shots = [(i * step, [(0, 300, 160, 80)]) for i in range(4)]
        shots += [((4 + i) * step, [(2, 300, 160, 80)]) for i in range(4)]
        assert follow(shots) == [[1]] * 4 + [[2]] * 4, step


def test_track_resumes_after_a_short_gap_and_not_after_a_long_one():
    before = [(i / 25, [(0, 300, 160, 80)]) for i in range(10)]
    short = [*before, *((0.4 + i / 25, []) for i in range(20)), (1.2, [(0, 315, 160, 80)])]
    assert follow(short)[-1] == [1]
    long = [*before, (0.5, []), (9.0, [(0, 315, 160, 80)])]
    assert follow(long)[-1] == [2]


def test_sparse_sampling_tells_people_apart_who_change_places():
    shots = [(i * 5.0, [(0, 200, 160, 80), (1, 440, 160, 80)]) for i in range(3)]
    shots += [(15 + i * 5.0, [(1, 230, 160, 80), (0, 420, 160, 80)]) for i in range(3)]
    people: dict[int, set[int]] = {}
    for shot, ids in zip(shots, follow(shots), strict=True):
        for (number, *_), track in zip(shot[1], ids, strict=True):
            people.setdefault(track, set()).add(number)
    assert all(len(numbers) == 1 for numbers in people.values())
    assert len(people) <= 4


casts = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.floats(60, 580), st.floats(60, 300), st.floats(24, 110)), max_size=4),
    min_size=1,
    max_size=5,
)


@given(casts, st.sampled_from([0.04, 0.7, 5.0]), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_ids_are_unique_and_do_not_hang_on_the_order_of_faces(cast_list, step, random):
    plain, shuffled = Tracker(), Tracker()
    names: dict[int, int] = {}
    highest = 0
    for i, cast in enumerate(cast_list):
        frame, faces = stage(i * step, cast)
        order = list(range(len(faces)))
        random.shuffle(order)
        ids = plain.update(frame, faces)
        mixed = shuffled.update(frame, [faces[place] for place in order])
        assert len(ids) == len(faces) == len(set(ids)) == len(set(mixed))
        for track in ids:
            assert track <= highest or track == highest + 1
            highest = max(highest, track)
        for place, track in zip(order, mixed, strict=True):
            # New tracks are numbered in the order given, so identities correspond, numbers need not.
            assert names.setdefault(track, ids[place]) == ids[place]


def test_frames_without_faces_and_repeated_times_are_fine():
    tracker = Tracker()
    frame, faces = stage(1.0, [(0, 300, 160, 80)])
    assert tracker.update(stage(0.0, [])[0], []) == []
    assert tracker.update(frame, faces) == [1]
    assert tracker.update(frame, faces) == [1]
    assert tracker.update(stage(0.5, [])[0], []) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (400, 3)])
def test_faces_at_the_edge_of_tiny_frames(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    face = Face((0.0, 0.0, 1.0, 1.0), 0.9, np.zeros((5, 2), np.float32))
    assert Tracker().update(Frame(index=0, time=0.0, image=image), [face]) == [1]


def test_scene_watch_tells_cuts_from_movement_light_and_flashes():
    watch = SceneWatch()
    assert not watch.is_cut(setting_of(BACKDROPS[0]))
    for i in range(5):
        assert not watch.is_cut(setting_of(np.roll(BACKDROPS[0], 12 * i, axis=1)))
    assert not watch.is_cut(setting_of(cv2.convertScaleAbs(BACKDROPS[0], alpha=1.15, beta=5)))
    assert watch.is_cut(setting_of(BACKDROPS[1]))
    assert watch.is_cut(setting_of(BACKDROPS[2]))
    assert not watch.is_cut(setting_of(stage(0, [(0, 300, 160, 120)], 2)[0].image))


def split(
    shots: Sequence[tuple[tuple[Frame, list[Face]], list[int]]], same_view: Callable[[float], bool] = lambda _: False
) -> dict[int, int]:
    """What becomes of tracks that a forward pass gave: frames with their faces, and the numbers given."""
    reunion = Reunion()
    for (frame, faces), ids in shots:
        centres = [np.array([(f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2]) for f in faces]
        looks = [describe(frame.image, face) for face in faces]
        reunion.see(frame.time, ids, centres, [face.side for face in faces], looks, same_view=same_view(frame.time))
    return reunion.people(3.0)


def test_a_piece_in_the_midst_of_somebody_is_theirs():
    shots = [(stage(i * 0.6, [(0, 300 + 3 * (i % 3), 160, 80)]), [2 if 3 <= i < 6 else 1]) for i in range(12)]
    assert split(shots) == {1: 1, 2: 1}


def test_a_stranger_in_the_midst_of_somebody_stays_a_stranger():
    for other in (1, 2, 3):
        shots = [(i * 0.6, [(other if 3 <= i < 6 else 0, 300, 160, 80)]) for i in range(12)]
        assert {number for row in people(shots)[3:6] for number in row}.isdisjoint(people(shots)[0]), other


def test_two_who_were_seen_together_are_never_one():
    both = [(0, 200, 160, 80), (0, 440, 160, 80)]  # twins
    shots = [(stage(i * 0.6, both if i < 4 else both[:1]), [1, 2] if i < 4 else [3]) for i in range(8)]
    found = split(shots)
    assert found[1] != found[2]


def test_a_piece_that_two_people_could_be_is_left_alone():
    alone = [stage(0.6 * i, [(0, 300, 160, 80)]) for i in range(7)]
    shots = [((frame, faces * 2), [1, 2]) for frame, faces in alone[:4]] + [
        ((frame, faces), [3]) for frame, faces in alone[4:]
    ]
    assert len(set(split(shots).values())) == 3


def test_nobody_is_reunited_across_a_cut_or_from_another_place():
    shots = [(i / 25, [(0, 300, 160, 80)], 0) for i in range(5)] + [
        (0.2 + i / 25, [(0, 300, 160, 80)], 1) for i in range(5)
    ]
    assert people(shots) == [[1]] * 5 + [[2]] * 5
    apart = [(stage(i * 0.6, [(0, 500 if 3 <= i < 6 else 150, 160, 80)]), [2 if 3 <= i < 6 else 1]) for i in range(12)]
    assert split(apart) == {1: 1, 2: 2}


@pytest.mark.parametrize("step", [0.04, 0.08, 0.16, 0.24])
@pytest.mark.parametrize("height", [180, 200, 230])
@pytest.mark.parametrize("passer", [1, 2, 3])
def test_who_is_half_hidden_by_somebody_who_walks_past_keeps_the_number(step, height, passer):
    """Five faces a second, nearer to the camera and a little lower; in the middle only the passer is found."""
    shots, hidden = [], []
    for i in range(-12, 13):
        x = 300 + 400 * i * step
        frame, faces = stage(
            (i + 12) * step, [(0, 300, 160, 80), *([(passer, x, height, 86)] if -60 < x < 700 else [])]
        )
        hidden.append(abs(x - 300) < 34)
        shots.append((frame, faces[1:] if hidden[-1] else faces))
    tracker = Tracker()
    rows = [tracker.update(*shot) for shot in shots]
    known = tracker.people()
    standing = {known[row[0]] for row, gone in zip(rows, hidden, strict=True) if not gone}
    passing = {known[number] for row, gone in zip(rows, hidden, strict=True) for number in (row if gone else row[1:])}
    assert len(standing) == 1
    assert standing.isdisjoint(passing)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2]), st.floats(0.02, 3.0), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_somebody_else_in_the_very_place_is_somebody_else(stranger, step, before, behind, returns):
    cast = [0] * before + [stranger] * behind + [0] * (3 if returns else 0)
    rows = people((i * step, [(number, 300, 160, 80)]) for i, number in enumerate(cast))
    assert {row[0] for row, number in zip(rows, cast, strict=True) if number}.isdisjoint(
        row[0] for row, number in zip(rows, cast, strict=True) if not number
    )


def pieces(gap: float = 0.16, across: float = 0, larger: float = 1) -> list[tuple[tuple[Frame, list[Face]], list[int]]]:
    """Somebody four times, and a little later, so far to the side and so much larger, twice with half of them hidden."""
    seen = [(stage(0.16 * i, [(0, 300, 160, 80)]), [1]) for i in range(4)]
    for i in range(2):
        frame, faces = stage(0.48 + gap + 0.16 * i, [(0, 300 + across, 160, 80 * larger), (1, 360 + across, 160, 80)])
        seen.append(((frame, faces[:1]), [2]))
    return seen


def test_place_and_time_decide_at_once_in_a_view_that_stays():
    known = {1: 1, 2: 1}
    assert split(pieces(), lambda _: True) == known
    assert split(pieces(gap=0.45), lambda _: True) == known
    assert split(pieces(across=20, larger=1.2), lambda _: True) == known
    assert split(pieces(), lambda time: time != 0.16) == known
    for other, same_view in (
        (pieces(gap=0.6), lambda _: True),
        (pieces(across=40), lambda _: True),
        (pieces(larger=1.4), lambda _: True),
        (pieces(), lambda _: False),
        (pieces(), lambda time: not 0.5 < time < 0.7),
    ):
        assert split(other, same_view) == {1: 1, 2: 2}


def test_place_and_time_do_not_decide_for_who_is_seen_meanwhile():
    (first, second), rest = pieces()[4:], pieces()[:4]
    between = stage(0.7, [(0, 300, 160, 80)])
    assert split([*rest, first, (between, [1]), second], lambda _: True) == {1: 1, 2: 2}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([(0,), (1,), (0, 1), (1, 2), ()]), min_size=1, max_size=8), st.sampled_from([0.04, 1.0])
)
def test_people_are_counted_from_one_and_unique_in_a_frame(casts, step):
    spots = [(120, 150, 70), (320, 160, 70), (520, 170, 70)]
    rows = people((i * step, [(number, *spots[number]) for number in cast]) for i, cast in enumerate(casts))
    assert all(len(set(row)) == len(row) for row in rows)
    seen = [number for row in rows for number in row]
    assert sorted(set(seen)) == list(range(1, len(set(seen)) + 1))
