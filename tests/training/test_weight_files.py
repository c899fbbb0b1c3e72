"""Weights in parts: what goes in comes out, and what is missing, damaged or another network's is refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.training.test_cli import RUN, SET
from tests.training.test_committee import write_untrained

from faceproof.cli import app
from faceproof.errors import OptionError, TrainingError, WeightsError
from faceproof.training import checkpoints
from faceproof.training.export import load_network
from faceproof.training.networks import FaceNetwork, _load_start
from faceproof.training.weight_files import _in_parts, _write, export_weights, import_weights, parse_size


@pytest.fixture
def exported(tmp_path):
    """A checkpoint whose averaged weights are its own, and a folder with them in parts of 100 kB."""
    path = write_untrained(tmp_path / "run.pt", 1)
    stored = checkpoints.load(path)
    average = {
        key: value * 1.01 if value.dtype.is_floating_point else value for key, value in stored["network"].items()
    }
    checkpoints.save(path, stored | {"average": average, "data": "d" * 64, "metrics": {"held_out_auroc": 0.75}})
    return path, export_weights(path, tmp_path / "parts", part_size=100_000)


def test_the_averaged_weights_come_back_as_near_as_halves_are(exported, tmp_path):
    path, made = exported
    assert len(made.parts) > 1
    assert all(part.stat().st_size <= 100_000 for part in made.parts)
    content = import_weights(made.index.parent)
    before = checkpoints.load(path)
    assert {key: content[key] for key in ("recipe", "data", "metrics", "average")} == {
        "recipe": before["recipe"], "data": "d" * 64, "metrics": {"held_out_auroc": 0.75}, "average": None,
    }  # fmt: skip
    assert content["progress"]["step"] == before["progress"]["step"]
    halves = 0
    for key, value in before["average"].items():
        found = content["network"][key]
        assert found.dtype == value.dtype
        if value.dim() > 1:
            torch.testing.assert_close(found, value, rtol=2**-10, atol=1e-7)
            halves += not torch.equal(found, value)
        else:
            assert torch.equal(found, value), "biases and statistics are kept as they are"
    assert halves
    checkpoints.save(tmp_path / "again.pt", content)
    size = content["recipe"]["input"]["size"]
    pictures = torch.rand(2, 3, size, size)
    with torch.no_grad():
        one, two = (load_network(each)[0](pictures).logit for each in (path, tmp_path / "again.pt"))
    torch.testing.assert_close(one, two, atol=0.05, rtol=0)


def test_the_last_weights_can_be_asked_for(exported, tmp_path):
    path, _ = exported
    found = import_weights(export_weights(path, tmp_path / "plain", averaged=False).index)
    torch.testing.assert_close(
        found["network"]["classifier.weight"],
        checkpoints.load(path)["network"]["classifier.weight"],
        rtol=2**-10,
        atol=1e-7,
    )


def test_the_change_of_a_logit_is_that_of_the_halves(exported, tmp_path):
    """Weights that halves hold exactly move nothing; the others do."""
    _, made = exported
    assert 0 < made.logit_change < 0.1
    exact = import_weights(made.index.parent)
    checkpoints.save(tmp_path / "exact.pt", exact)
    assert export_weights(tmp_path / "exact.pt", tmp_path / "exact").logit_change == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=60), st.integers(6_000, 20_000))
def test_no_part_is_larger_than_allowed_and_no_tensor_is_lost(tmp_path_factory, shapes, most):
    tensors = {f"layer.{n}.weight_of_some_length": torch.zeros(shape).half() for n, shape in enumerate(shapes)}
    groups = _in_parts(tensors, most)
    assert [key for group in groups for key in group] == list(tensors)
    folder = tmp_path_factory.mktemp("parts")
    for number, group in enumerate(groups):
        path = folder / f"{number}.safetensors"
        _write(path, {key: tensors[key] for key in group})
        assert path.stat().st_size <= most


def test_a_tensor_larger_than_a_part_is_named(exported, tmp_path):
    path, _ = exported
    with pytest.raises(TrainingError, match=r"backbone\..* alone takes .* more than a part of 5,000"):
        export_weights(path, tmp_path / "small", part_size=5_000)


def test_what_is_missing_damaged_or_foreign_is_refused(exported, tmp_path):
    _, made = exported
    folder = made.index.parent
    whole = made.parts[1].read_bytes()
    made.parts[1].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WeightsError, match=rf"{made.parts[1].name}.*SHA-256 differs"):
        import_weights(folder)
    made.parts[1].unlink()
    with pytest.raises(WeightsError, match=rf"1 of {len(made.parts)} parts are missing: {made.parts[1].name}"):
        import_weights(folder)
    made.parts[1].write_bytes(whole)
    kept = made.index.read_text()
    for words, change in (
        ("other tensors", lambda c: c["weight_map"].popitem()),
        ("do not fit", lambda c: c["metadata"]["recipe"]["network"].update(width=32)),
        ("no recipe of this version", lambda c: c["metadata"]["recipe"].update(mode="dreams")),
        ("not an index", lambda c: c["metadata"].pop("sha256")),
        ("not an index", lambda c: c["metadata"].update(format=99)),
        ("not an index", lambda c: c["metadata"]["sha256"].popitem()),
    ):
        content = json.loads(kept)
        change(content)
        made.index.write_text(json.dumps(content))
        with pytest.raises((WeightsError, TrainingError), match=words):
            import_weights(folder)
    made.index.write_text("{")
    with pytest.raises(WeightsError, match="not an index"):
        import_weights(folder)
    made.index.unlink()
    with pytest.raises(WeightsError, match="holds 0 files"):
        import_weights(folder)
    with pytest.raises(WeightsError, match="no folder"):
        import_weights(tmp_path / "nowhere")


def test_exporting_again_leaves_no_part_of_the_last_time(exported):
    path, made = exported
    again = export_weights(path, made.index.parent)
    assert sorted(made.index.parent.iterdir()) == sorted([again.index, *again.parts])
    assert len(again.parts) < len(made.parts)
    import_weights(made.index.parent)


def test_weights_that_are_no_numbers_are_not_exported(exported, tmp_path):
    path, _ = exported
    stored = checkpoints.load(path)
    stored["average"]["mask.bias"].fill_(float("nan"))
    checkpoints.save(path, stored)
    with pytest.raises(TrainingError, match=r"mask\.bias"):
        export_weights(path, tmp_path / "nan")


@pytest.mark.parametrize(("text", "size"), [("15MiB", 15 << 20), ("1.5 kb", 1500), ("4096", 4096), ("2GiB", 2 << 30)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "15 furlongs", "0MiB", "-1MB"])
def test_what_is_no_size(text):
    with pytest.raises(OptionError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize("high_pass", [False, True])
def test_a_backbone_alone_can_be_started_from_in_any_order(tmp_path, high_pass):
    torch.manual_seed(0)
    plain, network = FaceNetwork("test_efficientnet"), FaceNetwork("test_efficientnet", high_pass=high_pass)
    state = {key: value.contiguous() for key, value in plain.backbone.state_dict().items()}
    state |= {"classifier.weight": torch.zeros(10, 4), "classifier.bias": torch.zeros(10)}
    save_file(state, tmp_path / "imagenet.safetensors")
    assert list(load_file(tmp_path / "imagenet.safetensors")) != list(state), "the file keeps an order of its own"
    _load_start(network, tmp_path / "imagenet.safetensors")
    for key, value in plain.backbone.state_dict().items():
        found = network.backbone.state_dict()[key]
        assert torch.equal(found[:, :3] if key == "conv_stem.weight" else found, value)


def test_fifty_steps_from_the_first_shard_to_a_package(shards, tmp_path):
    """What is done on a GPU lent by the hour, in small: train, lose the machine, go on, carry the weights home, package."""
    settings = ("run.epochs=2", "run.steps_per_epoch=25", "run.save_minutes=0.02", "pairs.codec=0", "pairs.jpeg=1")
    changes = [*SET, *(word for setting in settings for word in ("--set", setting))]
    command = [
        "train",
        "faceproof-large",
        "--data",
        str(shards),
        "--out",
        str(tmp_path / "run"),
        "--no-package",
        "--growing",
    ]
    for more in (["--max-steps", "30"], ["--resume"]):
        answer = RUN.invoke(app, [*command, *changes, *more])
        assert answer.exit_code == 0, answer.output
    assert checkpoints.load(tmp_path / "run/last.pt")["progress"]["step"] == 50
    parts = str(tmp_path / "parts")
    answer = RUN.invoke(
        app, ["train", "export-weights", str(tmp_path / "run/best.pt"), "--out", parts, "--part-size", "100kB"]
    )
    assert answer.exit_code == 0, answer.output
    assert "00003.safetensors  " in answer.output
    answer = RUN.invoke(app, ["train", "import-weights", parts, "--out", str(tmp_path / "home.pt")])
    assert answer.exit_code == 0, answer.output
    assert "faceproof-large after" in answer.output
    package = ["train", "package", str(tmp_path / "home.pt"), "--data", str(shards), "--out", str(tmp_path / "package")]
    answer = RUN.invoke(app, package)
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "package/faceproof-large.onnx").is_file()
