import csv

import cv2
import numpy as np
import pytest
import torch
from tests.training.conftest import draw_face

from faceproof.errors import DatasetError
from faceproof.faces import Face
from faceproof.training import card, checkpoints, load_recipe, train
from faceproof.training.data import CropSource, Watch, build_transform
from faceproof.training.media_crops import CropTable, Item, check_leakage, extract, read_items, split_groups
from faceproof.training.packaging import package
from faceproof.training.recipe import AugmentTable

SMALL = {
    "network.architecture": "faceproof", "network.backbone": "test_efficientnet", "input.size": 64, "run.batch": 8,
    "run.epochs": 2, "run.workers": 0, "run.precision": "32-true",
}  # fmt: skip


def paint(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), draw_face(seed, 96)[..., ::-1])
    return path


@pytest.fixture
def folder(tmp_path):
    """Eight people, one real and two fakes each, in one sub-folder a person."""
    for person in range(8):
        paint(tmp_path / f"real/p{person}/a.png", person)
        for fake in range(2):
            paint(tmp_path / f"fake/p{person}/{fake}.png", 100 + 2 * person + fake)
    return tmp_path


def table(labels, groups=None):
    labels = np.array(labels, np.float32)
    groups = groups or [f"g{i}" for i in range(len(labels))]
    items = [
        Item(f"/nowhere/{i}", int(label), group) for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    pictures = np.stack([draw_face(i, 64) for i in range(len(labels))])
    return CropTable(pictures, labels, np.arange(len(labels)), np.zeros(len(labels), bool), items)


def crop_source(recipe, crops, monkeypatch):
    monkeypatch.setattr("faceproof.training.data.check_leakage", lambda *_: None)  # the files do not exist
    return CropSource(recipe, "", crops)


def test_a_folder_is_read_with_its_people_as_groups(folder):
    items = read_items(folder)
    assert len(items) == 24
    assert {item.group for item in items} == {f"p{n}" for n in range(8)}


def test_a_manifest_is_read(folder):
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "source_video", "method"])
        writer.writerow(["real/p0/a.png", "Real", "1", ""])
        writer.writerow(["fake/p0/0.png", "fake", "1", "swap"])
    items = read_items(folder)
    assert [(i.label, i.group, i.method) for i in items] == [(1, "1", "swap"), (0, "1", "")]
    (folder / "manifest.csv").write_text("path,label\na.png,maybe\n")
    with pytest.raises(DatasetError, match="line 2"):
        read_items(folder)


def test_bad_folders_are_refused_with_the_reason(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_items(tmp_path / "missing")
    with pytest.raises(DatasetError, match="neither real/ and fake/"):
        read_items(tmp_path)
    paint(tmp_path / "real/a.png", 0)
    with pytest.raises(DatasetError, match="are real"):
        read_items(tmp_path)


def test_a_split_keeps_groups_together_and_both_classes_on_both_sides(folder):
    items = read_items(folder)
    train_groups, held = split_groups(items, 0.2, seed=1)
    assert not train_groups & held
    assert len(held) == 2
    assert split_groups(items[::-1], 0.2, seed=1) == (train_groups, held)
    check_leakage([i for i in items if i.group in train_groups], [i for i in items if i.group in held])


def test_a_swap_ties_both_of_its_people_together(tmp_path):
    # as `faceproof manifest` writes FaceForensics++: every person held out was learnt from, in another file
    lines = ["path,label,source_video,identity"]
    for a, b in ((f"{n:03d}", f"{n + 1:03d}") for n in range(0, 40, 2)):
        lines += [f"{one}.mp4,real,{one},{one}" for one in (a, b)]
        lines += [f"{one}_{other}.mp4,fake,{one},{one}+{other}" for one, other in ((a, b), (b, a))]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    items = read_items(tmp_path)
    sides = split_groups(items, 0.15, seed=0)
    train, held = ({p for i in items if i.group in side for p in i.path.stem.split("_")} for side in sides)
    assert held
    assert not train & held
    assert len({item.group for item in items}) == 20


def test_leakage_by_group_or_by_copied_file_is_refused(folder):
    items = read_items(folder)
    with pytest.raises(DatasetError, match="both sides of the split: p0"):
        check_leakage(items, [i for i in items if i.group == "p0"])
    copy = folder / "fake/p9/copy.png"
    copy.parent.mkdir()
    copy.write_bytes(items[0].path.read_bytes())
    with pytest.raises(DatasetError, match="under different names"):
        check_leakage(items, [Item(copy, 1, "p9")])


def test_one_source_only_cannot_be_split():
    with pytest.raises(DatasetError, match="nothing can be held out"):
        split_groups([Item("a", 0, "g"), Item("b", 1, "g")], 0.5, 0)


def test_unreadable_files_are_listed_and_a_folder_without_faces_is_refused(folder, tmp_path):
    (folder / "real/p0/broken.png").write_bytes(b"junk")
    found = extract(read_items(folder), 64, 1.0)
    assert list(found.unreadable) == [str(folder / "real/p0/broken.png")]
    assert len(found.labels) == 24
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), np.zeros((40, 400, 3), np.uint8))
    with pytest.raises(DatasetError, match="No face was found in 1 files"):
        extract([Item(wide, 0, "w")], 64, 1.0)


def test_a_crop_may_lie_below_the_face(tmp_path, monkeypatch):
    rows = np.repeat(np.arange(200, dtype=np.uint8)[:, None, None], 200, 1).repeat(3, 2)  # brightness = row
    cv2.imwrite(str(tmp_path / "rows.png"), rows)
    face = Face((60.0, 40.0, 140.0, 120.0), 0.99, np.zeros((5, 2), np.float32))
    monkeypatch.setattr("faceproof.faces.FaceDetector.detect", lambda *_: [face])
    item = Item(tmp_path / "rows.png", 0, "g")
    centre, below = (extract([item], 40, 0.5, down=down).pictures[0].mean() for down in (0.0, 0.25))
    assert (centre, below) == (pytest.approx(79.5, abs=1), pytest.approx(99.5, abs=1))


def test_crops_are_kept_between_runs(folder, tmp_path, monkeypatch):
    first = extract(read_items(folder), 64, 1.0, tmp_path / "cache")
    monkeypatch.setattr("faceproof.media.read_frames", lambda *_: pytest.fail("the cache was not used"))
    second = extract(read_items(folder), 64, 1.0, tmp_path / "cache")
    np.testing.assert_array_equal(first.pictures, second.pictures)


def test_balancing_and_class_weights(monkeypatch):
    crops = table([0] * 10 + [1] * 40)
    for balance, size in (("sampler", None), ("undersample", None), ("none", None)):
        source = crop_source(load_recipe("two-class-b4", SMALL | {"run.balance": balance}), crops, monkeypatch)
        recipe = load_recipe("two-class-b4", SMALL | {"run.balance": balance})
        order = source.order(recipe, 0)
        share = source.table.labels[order].mean()
        assert share == (
            pytest.approx(0.5, abs=0.02) if balance != "none" else pytest.approx(source.table.labels.mean())
        )
        np.testing.assert_array_equal(order, source.order(recipe, 0))
        assert size is None
    weights = source.class_weights()
    fakes = source.table.labels.mean()
    assert weights[0] * (1 - fakes) == pytest.approx(weights[1] * fakes)


def test_hard_ones_come_back(monkeypatch):
    recipe = load_recipe("two-class-b4", SMALL | {"run.hard_negatives": 0.5})
    source = crop_source(recipe, table([0, 1] * 20), monkeypatch)
    source.hard = [3]
    assert (source.order(recipe, 1) == 3).sum() >= len(source.table.labels) // 2 - 1


def test_augmentation_is_decided_by_seed_epoch_and_index(monkeypatch):
    changes = {
        f"augment.{k}": v for k, v in {"flip": 0.5, "rotate": 15, "jpeg": 0.5, "noise": 0.5, "erase": 0.3}.items()
    }
    recipe = load_recipe("two-class-b4", SMALL | changes)
    source = crop_source(recipe, table([0, 1] * 20), monkeypatch)
    batches = [next(iter(source.batches(recipe, epoch, 0, 0, 1))) for epoch in (0, 0, 1)]
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert not torch.equal(batches[0]["image"], batches[2]["image"])


def test_no_augmentation_is_no_transform():
    assert build_transform(AugmentTable()) is None
    assert build_transform(AugmentTable(flip=1.0))(torch.arange(4).view(1, 2, 2)).flatten().tolist() == [1, 0, 3, 2]


def test_supervised_training_runs_mines_and_resumes(folder, tmp_path):
    changes = {"run.hard_negatives": 0.25, "run.balance": "weights", "augment.erase": 0.2}
    recipe = load_recipe("two-class-b4", SMALL | changes)
    whole = train(recipe, folder, tmp_path / "whole", quiet=True)
    train(recipe, folder, tmp_path / "parts", quiet=True, max_steps=2)
    train(recipe, folder, tmp_path / "parts", quiet=True, resume=True)
    one, two = (checkpoints.load(tmp_path / name / "last.pt")["network"] for name in ("whole", "parts"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert whole.epochs == 2


def test_a_package_of_labelled_media_says_whose_forgeries_and_resamples_people(folder, tmp_path, monkeypatch):
    recipe = load_recipe("two-class-b4", SMALL | {"run.epochs": 1})
    run = train(recipe, folder, tmp_path / "run", quiet=True)
    asked = []
    measured = card.bootstrap_auroc
    monkeypatch.setattr(card, "bootstrap_auroc", lambda *a: asked.append(a[3]) or measured(*a))
    made = package(run.best, folder, tmp_path / "package")
    assert "were given with their labels" in made.card.read_text()
    assert "No forged picture" not in made.card.read_text()
    (groups,) = asked
    assert len(set(groups)) < len(groups)  # three pictures of a person are one witness


def test_phases_unfreeze_the_last_layers(folder, tmp_path):
    changes = {"network.train": "head", "optimiser.lr": 1e-2, "run.epochs": 1}
    head_only = load_recipe("two-class-b4", SMALL | changes)
    train(head_only, folder, tmp_path / "head", quiet=True)
    phase = {"from_epoch": 1, "train": 3, "lr": 1e-3, "freeze_batchnorm": True}
    both = load_recipe("two-class-b4", SMALL | changes | {"run.epochs": 2, "phases": [phase]})
    train(both, folder, tmp_path / "both", quiet=True)
    one, two = (checkpoints.load(tmp_path / name / "last.pt")["network"] for name in ("head", "both"))
    moved = {
        k.split(".")[1]
        for k in one
        if k.startswith("backbone") and k.endswith("weight") and not torch.equal(one[k], two[k])
    }
    assert moved
    assert "conv_stem" not in moved


def test_a_watch_set_counts_videos_once():
    items = [Item(f"{n}", n % 2, f"{n}", "swap" if n % 2 else "") for n in range(4)]
    # items 2 and 3 are videos of three frames: one confident frame must not outvote two
    crops = CropTable(
        np.zeros((8, 8, 8, 3), np.uint8), np.float32([0, 1, 0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 2, 2, 3, 3, 3]),
        np.array([False, False] + [True] * 6), items,
    )  # fmt: skip
    found = Watch(crops).judge(np.array([-1.0, 1.0, 9.0, -3.0, -3.0, 2.0, 2.0, 2.0]))
    assert (found["stills"], found["videos"], found["watch"]) == (1.0, 1.0, 1.0)
    assert found["videos_swap"] == 1.0
