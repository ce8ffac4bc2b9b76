"""Initialisers draw what their formulas say, and the same for the same seed."""

import numpy as np
import pytest

import fastdl
from fastdl import initializers, random

SHAPE = 3, 3, 40, 50             # fans: 360 and 450


@pytest.mark.parametrize("name, deviation, most", [
    ("glorot_uniform", np.sqrt(2 / 810), np.sqrt(6 / 810)), ("glorot_normal", np.sqrt(2 / 810), 2 * np.sqrt(2 / 810) / 0.8796),
    ("he_uniform", np.sqrt(2 / 360), np.sqrt(6 / 360)), ("he_normal", np.sqrt(2 / 360), 2 * np.sqrt(2 / 360) / 0.8796),
    ("lecun_uniform", np.sqrt(1 / 360), np.sqrt(3 / 360)), ("lecun_normal", np.sqrt(1 / 360), 2 * np.sqrt(1 / 360) / 0.8796),
    ("random_normal", 0.05, 0.3), ("random_uniform", 0.05 / np.sqrt(3), 0.05), ("truncated_normal", 0.05 * 0.8796, 0.1)])
def test_moments(name, deviation, most):
    random.set_random_seed(1)
    w = initializers.get(name)(SHAPE)
    assert w.dtype == "float32" and w.shape == SHAPE
    assert abs(w.mean()) < 4 * deviation / np.sqrt(w.size) and abs(w.std() / deviation - 1) < 0.02
    assert 0.98 * most < np.abs(w).max() <= most * 1.0001 or name == "random_normal" and np.abs(w).max() < most


def test_seeds():
    same = initializers.GlorotUniform(seed=3)
    assert (same((4, 5)) == same((4, 5))).all() and (same((4, 5)) == initializers.GlorotUniform(seed=3)((4, 5))).all()
    assert (initializers.HeNormal()((4, 5)) != initializers.HeNormal()((4, 5))).any()
    generator = random.SeedGenerator(3)
    stream = initializers.RandomNormal(seed=generator)
    assert (stream((4, 5)) != stream((4, 5))).all()
    drawn = []
    for _ in range(2):
        fastdl.set_random_seed(11)
        drawn.append(np.concatenate([initializers.HeNormal()((5,)), random.normal((5,)).numpy(), np.random.rand(2)]))
    assert (drawn[0] == drawn[1]).all()


def test_constant_ones():
    assert (initializers.get("zeros")((2, 3)) == 0).all() and (initializers.get("Ones")((2,), "int32") == 1).all()
    assert (initializers.Constant(2.5)((2, 2)) == 2.5).all() and (initializers.Identity(2)((2, 3)) == 2 * np.eye(2, 3)).all()
    q = initializers.Orthogonal(gain=2.0, seed=1)((3, 4, 20))
    np.testing.assert_allclose(q.reshape(12, 20) @ q.reshape(12, 20).T, 4 * np.eye(12), atol=1e-5)


def test_get_and_configuration():
    for name in initializers._known.classes:
        made = initializers.get(name)
        assert initializers.deserialize(initializers.serialize(made)).get_config() == made.get_config()
    own = initializers.get(lambda shape, dtype="float32": np.full(shape, 7, dtype))
    assert (own((2,)) == 7).all() and initializers.get(None) is None
    with pytest.raises(ValueError, match="initializer: 'glorot' is not known"):
        initializers.get("glorot")
    with pytest.raises(ValueError, match="scale above 0"):
        initializers.VarianceScaling(scale=0)
