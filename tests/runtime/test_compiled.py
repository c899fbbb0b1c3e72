"""Compiled networks come back whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from faceproof.faces.mtcnn import WEIGHTS
from faceproof.runtime import compiled, load_network

NETWORK = WEIGHTS / "onet.onnx"
FACES = np.random.default_rng(1).random((2, 3, 48, 48), np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_CACHE", str(tmp_path))
    return tmp_path / "compiled"


def answers(path: Path = NETWORK) -> dict[str, np.ndarray]:
    return dict(load_network(path, runtime="openvino", precision="fp32").run(FACES))


def test_the_second_process_reads_what_the_first_compiled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = answers()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(compiled, "write", lambda *_: pytest.fail("compiled again"))
    second = answers()
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "one bit in the weights", "other names"])
def test_a_damaged_file_never_scores(cache: Path, damage: str) -> None:
    truth = answers()
    (kept,) = cache.iterdir()
    whole = bytearray(kept.read_bytes())
    if damage == "cut":
        del whole[len(whole) // 2 :]
    elif damage == "empty":
        whole.clear()
    elif damage == "noise":
        whole[:] = np.random.default_rng(2).bytes(len(whole))
    elif damage == "one bit in the weights":
        whole[len(whole) // 2] ^= 1
    else:
        whole[: whole.index(b"\n")] = b'{"outputs": 3}'
    kept.write_bytes(whole)
    again = answers()
    assert all(np.array_equal(truth[name], again[name]) for name in truth)
    assert kept.read_bytes() != bytes(whole), "the damaged file stayed"


def test_other_settings_are_kept_apart(cache: Path) -> None:
    load_network(NETWORK, runtime="openvino", precision="fp32", threads=1)
    load_network(NETWORK, runtime="openvino", precision="fp32", threads=2, streams=2)
    assert len(list(cache.iterdir())) == 2


def test_nothing_is_kept_when_told_so_or_where_nothing_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPROOF_CACHE", "")
    assert compiled.cache_folder() is None
    assert answers()
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("FACEPROOF_CACHE", str(file))
    assert compiled.cache_folder() is None
    assert answers()


def test_the_oldest_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    for age, name in enumerate(("new", "used", "old")):
        place = cache / f"{name}.network"
        compiled.write(place, ("logit",), bytes(1000))
        os.utime(place, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compiled, "MOST_BYTES", 3000)
    compiled.write(cache / "newest.network", ("logit",), bytes(1000))
    assert {entry.stem for entry in cache.iterdir()} == {"newest", "new"}
