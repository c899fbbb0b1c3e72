import numpy as np
import pytest
from tests.training.conftest import FIVE, draw_face

from faceproof.errors import TrainingError
from faceproof.training import autoencoder, masks, selfblend
from faceproof.training.shards import FaceStore


@pytest.fixture(scope="module")
def painters(shards, tmp_path_factory):
    path = tmp_path_factory.mktemp("painters") / "painters.pt"
    errors = autoencoder.train_autoencoders(FaceStore(shards, "all"), path, steps=60, batch=4, side=64)
    assert max(errors) < 0.25  # an untrained one is .3 to .5 off
    return str(path)


def test_a_painted_face_is_the_same_face_with_other_texture(painters):
    image = draw_face(1, 128)
    painted = autoencoder.paint(image, painters, np.random.default_rng(0))
    assert painted.shape == image.shape
    assert painted.dtype == np.uint8
    assert not np.array_equal(painted, image)
    slow = np.abs(painted.astype(float).mean((0, 1)) - image.mean((0, 1)))
    assert slow.max() < 8  # colours stay


def test_the_same_generator_paints_the_same(painters):
    image = draw_face(2, 100)  # not a multiple of the code's step
    one, two = (autoencoder.paint(image, painters, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_pairs_go_through_the_autoencoders_when_asked(painters):
    image, points = draw_face(1, 128), masks.from_five(FIVE * 128)
    options = selfblend.BlendOptions(swap=0, reenact=1, autoencoders=painters)
    differ = 0
    for seed in range(12):
        with_painter = selfblend.make_pair(image, points, np.random.default_rng(seed), options=options)
        without = selfblend.make_pair(
            image, points, np.random.default_rng(seed), options=selfblend.BlendOptions(swap=0, reenact=1)
        )
        differ += not np.array_equal(with_painter[1], without[1])
        real, fake, mask = with_painter
        np.testing.assert_array_equal(real[mask == 0], fake[mask == 0])
    assert 0 < differ < 12


def test_missing_or_foreign_files_are_named(tmp_path):
    with pytest.raises(TrainingError, match="do not exist"):
        autoencoder.load_autoencoders(str(tmp_path / "none.pt"))
    (tmp_path / "other.pt").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="cannot be read"):
        autoencoder.load_autoencoders(str(tmp_path / "other.pt"))
