"""Compiled networks come back whole or not at all."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from faceproof.faces.mtcnn import WEIGHTS
from faceproof.runtime import compiled, load_network, openvino

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


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "one bit in the weights", "other names", "other kind"])
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
    elif damage == "other names":
        whole[: whole.index(b"\n")] = b'{"outputs": 3}'
    else:
        whole = bytearray(whole.replace(b'"nothing"', b'"somehow"', 1))
    kept.write_bytes(whole)
    again = answers()
    assert all(np.array_equal(truth[name], again[name]) for name in truth)
    assert kept.read_bytes() != bytes(whole), "the damaged file stayed"


def test_what_the_engine_refuses_is_compiled_anew(cache: Path) -> None:
    """Whole, but made with instructions that are not to be used here: a home folder shared by unlike machines."""
    truth = answers()
    (kept,) = cache.iterdir()
    head, _, content = kept.read_bytes().partition(b"\n")
    foreign = content.replace(b"isa=", b"isa:", 1)
    assert foreign != content, "this OpenVINO does not name instructions in what it exports"
    facts = json.loads(head) | {"sha256": hashlib.sha256(foreign).hexdigest()}
    kept.write_bytes(json.dumps(facts).encode() + b"\n" + foreign)
    again = answers()
    assert all(np.array_equal(truth[name], again[name]) for name in truth)
    assert kept.read_bytes().partition(b"\n")[2] != foreign, "what cannot be used stayed"


def test_threads_that_compile_one_network_at_once_leave_one_file(cache: Path) -> None:
    truth = answers()
    (kept,) = cache.iterdir()
    kept.unlink()
    with ThreadPoolExecutor(4) as pool:
        each = list(pool.map(lambda _: answers(), range(4)))
    assert all(np.array_equal(truth[name], one[name]) for one in each for name in truth)
    assert list(cache.iterdir()) == [kept]
    assert compiled.read(kept) is not None


def test_a_network_goes_on_whatever_becomes_of_the_file_it_was_read_from(cache: Path) -> None:
    truth = answers()
    network = load_network(NETWORK, runtime="openvino", precision="fp32")
    (kept,) = cache.iterdir()
    with kept.open("r+b") as file:  # the same file, not another of its name
        file.write(bytes(kept.stat().st_size))
    kept.unlink()
    gc.collect()
    rubbish = [np.full(kept_bytes, 255, np.uint8) for kept_bytes in [1 << 20] * 8]
    again = network.run(FACES)
    assert rubbish
    assert all(np.array_equal(truth[name], again[name]) for name in truth)


def test_a_known_sum_finds_the_same_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers()
    monkeypatch.setattr(compiled, "write", lambda *_: pytest.fail("compiled again"))
    known = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    load_network(NETWORK, runtime="openvino", precision="fp32", sha256=known)
    monkeypatch.undo()
    assert compiled.place_of(NETWORK, "engine", {}, known) == compiled.place_of(NETWORK, "engine", {})
    assert compiled.place_of(NETWORK, "engine", {}, "0" * 64) != compiled.place_of(NETWORK, "engine", {})


def test_both_files_of_an_ir_count(cache: Path, tmp_path: Path) -> None:
    numbers, network = tmp_path / "net.bin", tmp_path / "net.xml"
    network.write_text("<net/>")
    numbers.write_bytes(b"one")
    first = compiled.place_of(network, "engine", {})
    numbers.write_bytes(b"two")
    assert first is not None
    assert compiled.place_of(network, "engine", {}) != first


def test_an_engine_that_knows_no_tensors_here_gets_bytes() -> None:
    class Older:
        def import_model(self, content: object, device: str, config: object) -> object:
            if not isinstance(content, bytes):
                raise TypeError("incompatible function argument")
            return content

    class Engine:
        Tensor = staticmethod(lambda content, shared_memory: (content, shared_memory))

    assert openvino._import(Older(), Engine, np.frombuffer(b"network", np.uint8), {}) == b"network"


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
        compiled.write(place, ("logit",), "nothing", bytes(1000))
        os.utime(place, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compiled, "MOST_BYTES", 3000)
    compiled.write(cache / "newest.network", ("logit",), "nothing", bytes(1000))
    assert {entry.stem for entry in cache.iterdir()} == {"newest", "new"}
