"""Shards that arrive while a run goes on, and checkpoints within an epoch."""

import shutil
import tarfile

import pytest
from tests.training.conftest import write_shards
from tests.training.test_loop import same, weights
from tests.training.test_loop import tiny as tiny_recipe

from faceproof.errors import DatasetError, OptionError, TrainingError
from faceproof.training import checkpoints, loop, package, train
from faceproof.training.data import open_source
from faceproof.training.shards import FaceStore, look_for_shards
from faceproof.training.weight_files import export_weights, import_weights


def tiny(**changes):
    """Without encoders: where this is for, PyAV may be missing."""
    return tiny_recipe(**({"pairs__codec": 0.0, "pairs__jpeg": 1.0} | changes))


@pytest.fixture
def arriving(tmp_path):
    """Three shards of sixteen people each, and a folder where faces.csv alone has arrived."""
    whole = write_shards(tmp_path / "whole", 48)
    rows = (whole / "faces.csv").read_text().splitlines()
    names = [f"faces-{number:02d}.tar" for number in range(3)]
    with tarfile.open(whole / "faces-00.tar") as everything:
        for number, name in reversed(list(enumerate(names))):
            with tarfile.open(whole / f".{name}", "w") as tar:
                for member in everything.getmembers()[16 * number : 16 * number + 16]:
                    tar.addfile(member, everything.extractfile(member))
    for number, name in enumerate(names):
        (whole / f".{name}").rename(whole / name)
        for line in range(1 + 16 * number, 17 + 16 * number):
            rows[line] = rows[line].replace("faces-00.tar", name)
    (whole / "faces.csv").write_text("\n".join(rows) + "\n")
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(whole / "faces.csv", there)
    return whole, there, names


def test_a_shard_counts_once_it_is_whole(arriving):
    whole, there, names = arriving
    assert look_for_shards(there) == ([], names)
    data = (whole / names[1]).read_bytes()
    for part in (0, 1000, len(data) // 2, 512 * 5, len(data) * 3 // 4):
        (there / names[1]).write_bytes(data[:part])
        assert look_for_shards(there) == ([], names), f"{part} of {len(data)} bytes"
    (there / names[1]).write_bytes(data)
    assert look_for_shards(there) == ([names[1]], [names[0], names[2]])
    assert look_for_shards(whole) == (names, [])
    assert len(FaceStore(whole, "all", shards=names[1:])) == 32
    with pytest.raises(DatasetError, match=r"no faces\.csv"):
        look_for_shards(there / "nowhere")


def _deliver_after(monkeypatch, step, whole, there, name):
    """Copy a shard once the run has taken this many steps."""
    saw = loop.Journal.step

    def delivered(self, number, values):
        saw(self, number, values)
        if number == step:
            shutil.copy(whole / name, there)

    monkeypatch.setattr(loop.Journal, "step", delivered)


def test_shards_are_taken_up_between_epochs_and_a_resumed_epoch_keeps_its_own(arriving, tmp_path, monkeypatch):
    whole, there, names = arriving
    recipe = tiny(run__epochs=3)
    with pytest.raises(DatasetError, match="whole yet"):
        train(recipe, there, tmp_path / "run", quiet=True, growing=True)
    read, start = [], FaceStore.__init__
    monkeypatch.setattr(
        FaceStore,
        "__init__",
        lambda self, *given, **named: (
            read.append((named["part"], len(named["shards"]))) or start(self, *given, **named)
        ),
    )
    shutil.copy(whole / names[0], there)
    _deliver_after(monkeypatch, 2, whole, there, names[1])  # in the first of three steps of the first epoch
    uninterrupted = train(recipe, there, tmp_path / "run", quiet=True, growing=True)
    assert read == [("train", 1), ("held_out", 1), ("train", 2)]  # read again only where something arrived
    assert checkpoints.load(tmp_path / "run/last.pt")["source"] == {"shards": names[:2], "held_shards": names[:1]}

    (there / names[1]).unlink()
    train(recipe, there, tmp_path / "parts", quiet=True, growing=True, max_steps=2)
    assert (there / names[1]).is_file()  # it arrived in the epoch that is to be resumed
    parts = train(recipe, there, tmp_path / "parts", quiet=True, growing=True, resume=True)
    assert parts.history == uninterrupted.history
    assert same(weights(tmp_path / "run/last.pt"), weights(tmp_path / "parts/last.pt"))
    longer = tiny(run__epochs=4)
    shutil.copy(whole / names[2], there)
    train(longer, there, tmp_path / "parts", quiet=True, growing=True, resume=True)
    assert checkpoints.load(tmp_path / "parts/last.pt")["source"]["shards"] == names
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="--growing"):
        train(longer, there, tmp_path / "parts", quiet=True, resume=True)


def test_a_shard_that_was_there_and_is_gone_is_missed(arriving):
    whole, there, names = arriving
    for name in names[:2]:
        shutil.copy(whole / name, there)
    source = open_source(tiny(), there, shards=names[:1])
    (there / names[1]).unlink()
    with pytest.raises(DatasetError, match=names[1]):
        source.take(names[:2])


def test_labelled_media_cannot_grow(tmp_path):
    recipe = tiny(mode="supervised", loss__rank=0.0, run__apart=False)
    with pytest.raises(OptionError, match="Only shards"):
        train(recipe, tmp_path, tmp_path / "run", growing=True)


def test_a_checkpoint_is_written_within_an_epoch(shards, tmp_path, monkeypatch):
    """A run whose machine is gone after the fifth step goes on from the last checkpoint and ends as it would have."""
    recipe = tiny(run__epochs=1, run__steps_per_epoch=6, run__save_minutes=1e-6)
    whole = train(recipe, shards, tmp_path / "whole", quiet=True)
    written, save = [], checkpoints.save
    monkeypatch.setattr(
        checkpoints, "save", lambda path, content: written.append(content["progress"]["step"]) or save(path, content)
    )
    saw = loop.Journal.step

    def gone(self, number, values):
        saw(self, number, values)
        if number == 5:
            raise ConnectionError("the machine is gone")

    monkeypatch.setattr(loop.Journal, "step", gone)
    with pytest.raises(ConnectionError):
        train(recipe, shards, tmp_path / "cut", quiet=True)
    assert written == [1, 2, 3, 4]
    monkeypatch.setattr(loop.Journal, "step", saw)
    cut = train(recipe, shards, tmp_path / "cut", quiet=True, resume=True)
    assert cut.history == whole.history
    assert same(weights(tmp_path / "whole/last.pt"), weights(tmp_path / "cut/last.pt"))


def test_a_run_stops_after_its_minutes_and_goes_on(shards, tmp_path):
    recipe = tiny(run__epochs=1)
    short = train(recipe, shards, tmp_path, quiet=True, max_minutes=1e-6)
    assert (short.stopped, checkpoints.load(tmp_path / "last.pt")["progress"]["step"]) == ("max_minutes", 1)
    assert train(recipe, shards, tmp_path, quiet=True, resume=True, max_minutes=60).stopped == "finished"


def test_the_card_counts_the_shards_that_were_trained_on(arriving, tmp_path):
    whole, there, names = arriving
    for name in names[:2]:
        shutil.copy(whole / name, there)
    best = train(tiny(run__epochs=1), there, tmp_path / "run", quiet=True, growing=True).best
    content = import_weights(export_weights(best, tmp_path / "parts").index)
    checkpoints.save(tmp_path / "home.pt", content)
    for path in (best, tmp_path / "home.pt"):
        card = package(path, whole, tmp_path / "package", pairs_to_score=8).card.read_text()
        assert f"drawn: {len(FaceStore(whole, 'train', 0.25, shards=names[:2]))} pictures" in card
