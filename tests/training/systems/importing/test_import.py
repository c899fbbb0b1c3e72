"""An author's file becomes a working detector, or one clear error and nothing installed."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from faceproof.detectors import catalog
from faceproof.detectors.detector import load_detector
from faceproof.diagnosis import examine_detector
from faceproof.errors import FaceproofError, OptionError, WeightsError
from faceproof.faces.crops import batch
from faceproof.training.convert.onnx import random_crops
from faceproof.training.importing.files import sniff
from faceproof.training.importing.install import import_checkpoint, read_network
from faceproof.training.importing.layouts import LAYOUTS
from faceproof.training.systems import build

SMALL = {"encoder": "tf_efficientnet_b0", "image_size": 64}
TINY_CROSS = {"depth": 1, "sm_enc_depth": 1, "lg_enc_depth": 1, "cross_attn_depth": 1, "sm_dim": 16, "lg_dim": 24}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture(scope="session")
def authors_state(enliven):
    """A state dict in the author's names, of a network whose answers differ from picture to picture."""

    def make(
        name: str, settings: dict[str, object] | None = None, *, side: int = 0, count: int = 12
    ) -> dict[str, Tensor]:
        recipe = catalog.find_spec(name).spec.input
        side = side or (224 if name == "cross-efficient-vit" else 64)
        crops = batch(random_crops(count, seed=5), recipe.model_copy(update={"size": side}))
        network = enliven(build(name, settings), torch.from_numpy(crops))
        state = network.state_dict()
        return {
            key: torch.zeros(entry.shape) if entry.ours is None else state[entry.ours].clone()
            for key, entry in LAYOUTS[name].entries(network).items()
        }

    return make


def save(content: object, path: Path, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.fixture(scope="session")
def b7_like(authors_state) -> dict[str, Tensor]:
    return authors_state("efficientnet-b7-dfdc", SMALL)


def selimsef_file(state: dict[str, Tensor], path: Path) -> Path:
    """As released: behind the wrapper of parallel training, with an epoch and a numpy score."""
    wrapped = {f"module.{key}": value for key, value in state.items()}
    return save({"epoch": 36, "state_dict": wrapped, "bce_best": np.float64(0.21)}, path)


def test_selimsefs_checkpoint_becomes_a_detector(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    path = selimsef_file(b7_like, tmp_path / "final_111_DeepFakeClassifier_tf_efficientnet_b7_ns_0_36")
    told: list[str] = []
    made = import_checkpoint(path, as_detector="efficientnet-b7-dfdc", settings=SMALL, progress=told.append)
    assert made.agreement is not None
    assert made.agreement.crops == 64
    assert made.agreement.logit <= 1e-3  # 1e-4 of the logit; a random network's reach beyond ±1
    assert told
    assert {p.name for p in made.folder.iterdir()} == {"spec.toml", "network.onnx", "network.safetensors"}
    assert made.folder == models / "efficientnet-b7-dfdc"

    # It takes the package's place, and the document's profile borrows its weights.
    installed = catalog.find_spec("efficientnet-b7-dfdc")
    assert installed.origin == "user"
    assert installed.spec == made.spec
    assert installed.spec.checkpoint.file == path.name
    borrowed = catalog.find_spec("efficientnet-b7-dfdc-document")
    assert borrowed.spec.weights == made.spec.weights
    assert borrowed.spec.frames.sampling == "all"
    assert catalog.weights_path(borrowed) == made.folder / "network.onnx"

    # It answers as the author's network does, and doctor repeats its known answers.
    crops = random_crops(4, seed=3)
    reference = read_network(path, "efficientnet-b7-dfdc", SMALL)
    with torch.no_grad():
        logit, heat = reference(torch.from_numpy(batch(crops, installed.spec.input)))
    detector = load_detector("efficientnet-b7-dfdc", precision="fp32")
    scores, map_ = detector.score_with_heat(crops)
    assert logit.std() > 0.1
    np.testing.assert_allclose(scores, torch.sigmoid(logit).numpy(), atol=1e-4)
    assert map_ is not None
    np.testing.assert_allclose(map_, heat.numpy(), atol=1e-3)
    # bf16 left out: a random network turns its rounding into leaps that a trained one does not make.
    assert {f.state for f in examine_detector(installed) if "bf16" not in f.subject} == {"ok"}

    # The safetensors file holds the same network.
    again = read_network(made.folder / "network.safetensors", "efficientnet-b7-dfdc", SMALL)
    with torch.no_grad():
        torch.testing.assert_close(again(torch.from_numpy(batch(crops, installed.spec.input)))[0], logit)

    with pytest.raises(OptionError, match="installed already"):
        import_checkpoint(path, as_detector="efficientnet-b7-dfdc", settings=SMALL)


@pytest.mark.parametrize(
    ("name", "settings", "wrap"),
    [
        ("efficientnet-b4-224", SMALL, lambda s: {"model_state_dict": s, "epoch": 3}),
        ("cross-efficient-vit", TINY_CROSS, lambda s: s),
        ("efficientnet-b4att-icpr2020", {"encoder": "tf_efficientnet_b0", "image_size": 64}, lambda s: {"net": s}),
    ],
)
def test_other_authors_files_become_detectors(
    name: str, settings: dict[str, object], wrap, tmp_path: Path, authors_state
) -> None:
    path = save(wrap(authors_state(name, settings)), tmp_path / "weights.pth")
    made = import_checkpoint(path, as_detector=name, name="mine", settings=settings, crops=8)
    assert made.agreement is not None
    assert made.agreement.logit <= 1e-3  # 1e-4 of the logit; a random network's reach beyond ±1
    assert made.spec.name == "mine"
    detector = load_detector("mine", precision="fp32")
    assert detector.logits(random_crops(3)).std() > 1e-2
    _, heat = detector.score_with_heat(random_crops(3))
    assert heat is not None
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert "mine" in [spec.name for spec in catalog.list_detectors()]
    assert not list((tmp_path / "home" / "staging").iterdir())


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("efficientnet-b4-sbi", lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}, "epoch": 99}),
        ("efficientnet-b4-icpr2020", lambda s: {"epoch": 1, "net": s, "opt": {"state": {}}}),
        ("efficientnet-b4-deepfakebench", lambda s: {f"module.{k}": v for k, v in s.items()}),
        ("efficientnet-b4-mobile", lambda s: s),
    ],
)
def test_relatives_are_read(name: str, wrap, tmp_path: Path, authors_state) -> None:
    settings = None if name == "efficientnet-b4-mobile" else {"encoder": "tf_efficientnet_b0"}
    state = authors_state(name, settings)
    network = read_network(save(wrap(state), tmp_path / "weights.tar"), name, settings)
    bound = LAYOUTS[name].entries(network)
    mine = network.state_dict()
    assert all(torch.equal(mine[entry.ours], state[key]) for key, entry in bound.items() if entry.ours)


def test_old_pickles_and_half_precision_are_read(b7_like: dict[str, Tensor], tmp_path: Path) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in b7_like.items()}
    path = save({"state_dict": half}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert sniff(path) == "torch-legacy"
    network = read_network(path, "efficientnet-b7-dfdc", SMALL)
    assert network.head[1].weight.dtype == torch.float32
    torch.testing.assert_close(network.head[1].weight, half["fc.weight"].float())


def test_numpys_old_module_name_is_known(b7_like: dict[str, Tensor], tmp_path: Path) -> None:
    """Files written before numpy 2 name its number type by another path."""
    fresh = selimsef_file(b7_like, tmp_path / "new")
    old = tmp_path / "old"
    with zipfile.ZipFile(fresh) as source, zipfile.ZipFile(old, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            target.writestr(member, content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    read_network(old, "efficientnet-b7-dfdc", SMALL)


# --- one clear error each, and nothing installed ---------------------------------------------------------------------


class _Evil:
    def __reduce__(self):
        return (print, ("ran",))


def _refused(
    path: Path, words: str, models: Path, detector: str = "efficientnet-b7-dfdc", **options: object
) -> FaceproofError:
    with pytest.raises((WeightsError, OptionError), match=words) as caught:
        import_checkpoint(path, as_detector=detector, settings=options.pop("settings", SMALL), **options)
    assert not models.exists() or not list(models.iterdir())
    staging = models.parent / "staging"
    assert not staging.exists() or not list(staging.iterdir())
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing_surplus_and_misshapen_keys_are_named(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    lacking = {k: v for k, v in b7_like.items() if k != "fc.bias"}
    _refused(save(lacking, tmp_path / "a"), r"missing fc\.bias", models)
    _refused(save(b7_like | {"extra.weight": torch.zeros(1)}, tmp_path / "b"), r"surplus extra\.weight", models)
    no_unused = {k: v for k, v in b7_like.items() if "classifier" not in k}
    _refused(save(no_unused, tmp_path / "c"), r"missing encoder\.classifier\.bias", models)
    bent = b7_like | {"fc.weight": torch.zeros(1, 7)}
    _refused(save(bent, tmp_path / "d"), r"fc\.weight is 1×7, not 1×1280", models)


def test_a_file_of_another_network_is_named_as_such(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    path = save(b7_like, tmp_path / "b7")
    _refused(path, "is of another network", models, "cross-efficient-vit", settings=TINY_CROSS)
    _refused(path, "is a PyTorch file", models, "efficientnet-b4-keras")


def test_weights_that_are_not_numbers_are_named(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    broken = dict(b7_like)
    broken["encoder.conv_stem.weight"] = torch.full_like(broken["encoder.conv_stem.weight"], float("nan"))
    _refused(save(broken, tmp_path / "nan"), r"not finite in encoder\.conv_stem\.weight", models)


def test_nothing_in_a_file_is_run(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _refused(save({"state_dict": _Evil()}, tmp_path / "evil"), "asks to run .*print.*nothing was run", models)
    for protocol in (2, 3, 4, 5):
        (tmp_path / "raw").write_bytes(pickle.dumps(_Evil(), protocol=protocol))
        _refused(
            tmp_path / "raw", "asks to run .*nothing was run|did not write; it was not run|cut off or damaged", models
        )
    _refused(tmp_path / "raw", "a pickle that PyTorch did not write", models)
    _refused(save(torch.nn.Linear(2, 2), tmp_path / "whole_model"), "asks to run .*nothing was run", models)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 36600000\n",
            "Git LFS pointer of a file of 36,600,000",
        ),
        (b"\x80", "is no checkpoint Faceproof knows"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"hello, this is a text file", "is no checkpoint Faceproof knows"),
        (b"PK\x03\x04" + b"\0" * 500, "cut off or damaged"),
        (b"\x80\x02}q\x00(X", "cut off or damaged"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "is a Keras file"),
        ((5000).to_bytes(8, "little") + b'{"fc.weight":{"dtype":"F32"', "cut off or damaged"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(content: bytes, words: str, tmp_path: Path, models: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    _refused(tmp_path / "file", words, models)


def test_a_truncated_archive_is_named(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    whole = selimsef_file(b7_like, tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    _refused(tmp_path / "cut", "cut off or damaged", models)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped").write_bytes(bytes(flipped))
    _refused(tmp_path / "flipped", "is damaged at", models)


def test_archives_that_leave_their_folder_or_explode_are_refused(tmp_path: Path, models: Path) -> None:
    for name, member, content, words in (
        ("slip", "../../evil", b"x", "leaves its folder"),
        ("absolute", "/etc/evil", b"x", "leaves its folder"),
        ("bomb", "config.json", b"\0" * 30_000_000, "zip bomb"),
        ("other", "readme.txt", b"hello", "zip archive without weights"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
        _refused(tmp_path / name, words, models)


def test_missing_file_wrong_detector_and_wrong_name(b7_like: dict[str, Tensor], tmp_path: Path, models: Path) -> None:
    _refused(tmp_path / "nowhere", "no such file", models)
    path = save(b7_like, tmp_path / "b7")
    _refused(path, "cannot be a detector's name", models, name="../Up")
    with pytest.raises(FaceproofError, match="no detector is called"):
        import_checkpoint(path, as_detector="xception")


def test_a_state_dict_of_something_else_than_tensors(tmp_path: Path, models: Path) -> None:
    _refused(save([1, 2], tmp_path / "list"), "holds a list, not a state dict", models)
    _refused(save({"net2": {"a": torch.zeros(1)}}, tmp_path / "nested"), "is no state dict: .*net2", models)


# --- ONNX ------------------------------------------------------------------------------------------------------------


def _onnx_file(path: Path, outputs: tuple[str, ...], size: int = 224) -> Path:
    import onnx
    from onnx import TensorProto, helper

    nodes, infos = [], []
    for name in outputs:
        axes = [1, 2, 3] if name == "logit" else [1]
        constant = helper.make_node("Constant", [], [f"{name}_axes"], value_ints=axes)
        nodes += [constant, helper.make_node("ReduceMean", ["input", f"{name}_axes"], [name], keepdims=0)]
        shape = ["n"] if name == "logit" else ["n", size, size]
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, size, size])
    graph = helper.make_graph(nodes, "g", [given], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))
    return path


def test_an_onnx_file_with_the_right_outputs_is_installed(tmp_path: Path) -> None:
    path = _onnx_file(tmp_path / "net.onnx", ("logit", "heatmap"))
    made = import_checkpoint(path, as_detector="efficientnet-b4-mobile", name="mine")
    assert made.agreement is None
    assert load_detector("mine").score(random_crops(2)).shape == (2,)


def test_an_onnx_file_with_other_outputs_is_refused(tmp_path: Path, models: Path) -> None:
    options = {"detector": "efficientnet-b4-mobile", "settings": None}
    _refused(_onnx_file(tmp_path / "a.onnx", ("logit",)), "has the outputs logit, but not heatmap", models, **options)
    _refused(_onnx_file(tmp_path / "b.onnx", ("heatmap",)), "but not logit", models, **options)
    _refused(_onnx_file(tmp_path / "c.onnx", ("logit", "heatmap"), 32), "does not answer as", models, **options)
    (tmp_path / "d.onnx").write_bytes(b"\x08\x0a broken")
    _refused(tmp_path / "d.onnx", "cannot be loaded", models, **options)


# --- HDF5 ------------------------------------------------------------------------------------------------------------


def _keras_archive(path: Path, config: str, fill) -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        fill(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


LAYERS = (
    '{"config": {"layers": [{"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 64, 64, 3]}},'
    ' {"class_name": "%s", "config": {"name": "x"}}]}}'
)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "is damaged"),
        ("[]", "is not a Keras model's"),
        (LAYERS % "Lambda", "layer of kind Lambda"),
        (LAYERS % "Dropout", "holds no EfficientNet"),
        ('{"config": {"layers": []}}', "does not say the size"),
    ],
)
def test_keras_descriptions_that_are_not_an_efficientnet(config: str, words: str, tmp_path: Path, models: Path) -> None:
    path = _keras_archive(tmp_path / "m.keras", config, lambda file: None)
    _refused(path, words, models, "efficientnet-b4-keras")


def test_hdf5_may_not_reach_out_of_its_file(tmp_path: Path, models: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 64)

    def link(file: h5py.File) -> None:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "secret"), "/")

    def elsewhere(file: h5py.File) -> None:
        file.create_dataset("layers/a/vars/0", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])

    for name, fill_, words in (("link", link, "links to another file"), ("else", elsewhere, "in another file")):
        _refused(_keras_archive(tmp_path / name, LAYERS % "Dropout", fill_), words, models, "efficientnet-b4-keras")


def test_weights_without_their_model_are_refused(tmp_path: Path, models: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["a"] = np.zeros(3)
    _refused(tmp_path / "weights.h5", "without the model they belong to", models, "efficientnet-b4-keras")


# --- the real size ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_b7_imports_within_a_minute_and_three_gigabytes(tmp_path: Path, authors_state) -> None:
    """At full size, in a process of its own so that its memory is its own."""
    import json
    import subprocess
    import sys

    # statistics of the size it is compared at: with those of small pictures 55 blocks make thousands of every rounding
    selimsef_file(authors_state("efficientnet-b7-dfdc", side=380, count=4), tmp_path / "b7")
    code = (
        "import json, resource, sys, time\n"
        "from faceproof.training.importing.install import import_checkpoint\n"
        "start = time.perf_counter()\n"
        "made = import_checkpoint(sys.argv[1], as_detector='efficientnet-b7-dfdc')\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2\n"
        "print(json.dumps([time.perf_counter() - start, peak, made.agreement.logit]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b7")], capture_output=True, text=True, check=True
    )
    seconds, gigabytes, difference = json.loads(done.stdout.splitlines()[-1])
    print(f"B7: {seconds:.0f} s, {gigabytes:.2f} GB, |Δlogit| {difference:.1e}")
    assert difference <= 1e-4
    assert gigabytes <= 3
    assert seconds <= 180, "60 s on two idle cores; this machine may be busy"
