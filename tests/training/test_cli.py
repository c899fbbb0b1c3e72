import cv2
from tests.training.test_committee import write_untrained
from tests.training.test_loop import TINY
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.training import load_recipe

RUN = CliRunner()
SETTINGS = {
    "network.backbone": "test_efficientnet", "network.init": "", "input.size": 64, "pairs.tile": "[64, 80]",
    "pairs.group": 2, "pairs.held_out": 0.25, "run.batch": 8, "run.epochs": 1, "run.steps_per_epoch": 2,
    "run.workers": 0, "run.precision": "32-true",
}  # fmt: skip
SET = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


def test_a_recipe_trains_and_ends_with_a_package(shards, tmp_path):
    start = ["train", "faceproof-small", "--data", str(shards), "--out", str(tmp_path / "run"), *SET]
    answer = RUN.invoke(app, [*start, "--max-steps", "1", "--no-package"])
    assert answer.exit_code == 0, answer.output
    answer = RUN.invoke(app, [*start, "--resume"])
    assert answer.exit_code == 0, answer.output
    assert "finished after 1 epochs" in answer.output
    assert (tmp_path / "run/package/faceproof-small.onnx").is_file()
    assert (tmp_path / "run/package/faceproof-small.md").is_file()


def test_preview_writes_a_contact_sheet(shards, tmp_path):
    answer = RUN.invoke(
        app, ["train", "preview", "--data", str(shards), "--out", str(tmp_path / "sheet.png"), "--count", "8"]
    )
    assert answer.exit_code == 0, answer.output
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 192, 4 * 3 * 192, 3)


def test_recipes_are_listed():
    answer = RUN.invoke(app, ["train", "recipes"])
    assert "faceproof-small" in answer.output
    assert "dfdc-b7" in answer.output
    assert all(" " in line.split("Ours")[0] for line in answer.output.splitlines() if "Ours" in line)


def test_a_recipe_is_printed_in_full(tmp_path):
    shown = RUN.invoke(app, ["train", "recipes", "faceproof-small-eyes"]).output
    (tmp_path / "copy.toml").write_text(shown)
    assert "down = -0.1" in shown
    assert load_recipe(tmp_path / "copy.toml") == load_recipe("faceproof-small-eyes")
    write_untrained(tmp_path / "run.pt", 1)
    (tmp_path / "trained.toml").write_text(RUN.invoke(app, ["train", "recipes", str(tmp_path / "run.pt")]).output)
    assert load_recipe(tmp_path / "trained.toml") == load_recipe("faceproof-small", TINY)


def test_an_unknown_recipe_is_an_error(tmp_path):
    answer = RUN.invoke(app, ["train", "nothing", "--data", str(tmp_path), "--out", str(tmp_path / "o")])
    assert answer.exit_code != 0
    assert "no recipe 'nothing'" in str(answer.exception)


def test_landmarks_without_mediapipe_say_what_to_install(shards, tmp_path):
    answer = RUN.invoke(app, ["train", "landmarks", "--data", str(shards), "--out", str(tmp_path / "x.npz")])
    if answer.exit_code:
        assert "mediapipe" in f"{answer.exception}".lower()
