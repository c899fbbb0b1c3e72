import pytest

from faceproof.errors import OptionError, TrainingError
from faceproof.training import load_recipe, recipe_names
from faceproof.training.recipe import Recipe, parse_changes
from faceproof.training.recipe_text import recipe_to_toml


def test_the_documented_recipes_ship_with_the_documented_numbers():
    assert set(recipe_names()) >= {"faceproof-small", "mobile-b4", "keras-b4", "two-class-b4", "dfdc-b7"}
    mobile = load_recipe("mobile-b4")
    assert (mobile.optimiser.kind, mobile.optimiser.lr, mobile.optimiser.weight_decay) == ("adamw", 5e-5, 1e-4)
    assert (mobile.run.batch, mobile.run.epochs, mobile.run.save_every) == (32, 30, 5)
    keras = load_recipe("keras-b4")
    assert (keras.loss.kind, keras.loss.gamma, keras.network.train) == ("focal", 2.0, "head")
    assert (keras.schedule.factor, keras.schedule.patience, keras.schedule.min_lr) == (0.3, 3, 1e-7)
    assert (keras.run.early_stop, keras.run.balance) == (7, "weights")
    assert (keras.phases[0].train, keras.phases[0].lr, keras.phases[0].freeze_batchnorm) == (20, 1e-4, True)
    two = load_recipe("two-class-b4")
    assert (two.augment.flip, two.augment.rotate, two.augment.erase, two.augment.hue) == (0.5, 15, 0.1, 0.1)
    assert (two.schedule.factor, two.schedule.patience, two.run.early_stop) == (0.5, 3, 5)
    dfdc = load_recipe("dfdc-b7")
    assert (dfdc.optimiser.kind, dfdc.optimiser.lr, dfdc.schedule.kind) == ("sgd", 0.01, "poly")
    assert (dfdc.loss.kind, dfdc.loss.smoothing, dfdc.optimiser.clip) == ("class_averaged_bce", 0.01, 1.0)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_says_whose_it_is(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.origin) > 40


def test_an_unknown_key_is_an_error():
    with pytest.raises(TrainingError, match=r"optimiser\.learning_rate"):
        load_recipe("faceproof-small", {"optimiser.learning_rate": 1})


def test_a_value_out_of_range_is_an_error():
    with pytest.raises(TrainingError, match=r"run\.batch"):
        load_recipe("faceproof-small", {"run.batch": 0})
    with pytest.raises(TrainingError, match="multiple of 8"):
        load_recipe("faceproof-small", {"run.batch": 12})


def test_an_unknown_recipe_names_those_that_exist(tmp_path):
    with pytest.raises(TrainingError, match="faceproof-small"):
        load_recipe("nothing")
    with pytest.raises(TrainingError, match="no recipe file"):
        load_recipe(tmp_path / "missing.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(TrainingError, match="not valid TOML"):
        load_recipe(bad)


def test_ranking_needs_pairs(tmp_path):
    path = tmp_path / "ranked.toml"
    path.write_text('name = "ranked"\nmode = "supervised"\n[loss]\nrank = 0.5\n')
    with pytest.raises(TrainingError, match="pairs"):
        load_recipe(path)


def test_changes_are_toml_values_or_bare_words():
    found = parse_changes(["run.batch=16", "pairs.crop=[0.9, 1.5]", "network.backbone=tf_efficientnet_lite1", "a=b=c"])
    assert found == {
        "run.batch": 16, "pairs.crop": [0.9, 1.5], "network.backbone": "tf_efficientnet_lite1", "a": "b=c",
    }  # fmt: skip
    with pytest.raises(OptionError, match="KEY=VALUE"):
        parse_changes(["run.batch"])


def write(folder, name, text):
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'name = "{name}"\n{text}')
    return path


def test_a_recipe_builds_on_another_key_by_key(tmp_path):
    write(
        tmp_path / "below", "ground", '[run]\nbatch = 16\nepochs = 9\n[card]\nterms = ["a", "b"]\n[input]\ndown = 0.1\n'
    )
    write(tmp_path, "middle", 'extends = "below/ground.toml"\n[run]\nepochs = 3\n')
    top = load_recipe(write(tmp_path, "top", 'extends = "middle.toml"\n[card]\nterms = ["c"]\n'), {"run.seed": 4})
    assert (top.name, top.origin) == ("top", "")
    assert (top.run.batch, top.run.epochs, top.run.seed) == (16, 3, 4)  # of the farthest, the nearer, and --set
    assert (top.card.terms, top.input.down) == (("c",), 0.1)  # lists as wholes
    assert "extends" not in Recipe.model_fields  # what a run records is the recipe in full


def test_a_recipe_builds_on_one_that_ships_and_keeps_nothing_of_its_name(tmp_path):
    path = write(tmp_path, "mine", 'extends = "faceproof-small"\n[input]\nsize = 128\n')
    mine, small = load_recipe(path), load_recipe("faceproof-small")
    assert mine.input.size == 128
    assert mine.model_copy(update={"name": small.name, "origin": small.origin, "input": small.input}) == small
    path.write_text('extends = "faceproof-small"\n')
    with pytest.raises(TrainingError, match="name"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("extends", "words"),
    [
        ('"nobody"', "'nobody', which is not there"),
        ('"gone.toml"', "gone.toml"),
        ("[1]", "neither a name nor a path"),
        ('"a.toml"', r"each other: .*a\.toml → .*b\.toml → .*a\.toml"),
        ('"b.toml"', r"each other: .*b\.toml → .*b\.toml"),
    ],
)
def test_what_a_recipe_cannot_build_on_is_named(tmp_path, extends, words):
    write(tmp_path, "a", 'extends = "b.toml"\n')
    write(tmp_path, "b", f"extends = {extends}\n")
    with pytest.raises(TrainingError, match=words):
        load_recipe(tmp_path / "a.toml")


def test_the_close_ups_differ_in_where_they_look_alone():
    mouth, eyes = load_recipe("faceproof-small-mouth"), load_recipe("faceproof-small-eyes")
    assert (mouth.input.down, eyes.input.down) == (0.2667, -0.1)
    changes = {"name": mouth.name, "origin": mouth.origin, "input": mouth.input}
    assert eyes.model_copy(update=changes) == mouth
    assert mouth.card.terms == load_recipe("faceproof-small").card.terms


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_written_out_reads_back_as_itself(name, tmp_path):
    recipe = load_recipe(name)
    path = tmp_path / "written.toml"
    path.write_text(recipe_to_toml(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_a_value_set_inside_a_value_is_an_error():
    with pytest.raises(TrainingError, match="name is no table"):
        load_recipe("faceproof-small", {"name.x": 1})
