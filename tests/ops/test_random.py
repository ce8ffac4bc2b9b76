"""Random numbers: the published bits of Philox, distributions, streams, dropout."""

import math

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops, random
from fastdl.ops.random import philox
from fastdl.record import Program


def test_bits_are_those_of_the_paper():
    """Known answers of Random123 for philox4x32-10: counter and key of zeros."""
    bits = philox(np.zeros(2, "int64"), 1)
    assert [hex(bits[16 * w]) for w in range(4)] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


def test_numbers_do_not_depend_on_how_many_are_drawn(c_isa):
    for draw in random.uniform, random.normal, random.truncated_normal:
        long = draw((300,), seed=4).numpy()
        assert all((draw((n,), seed=4).numpy() == long[:n]).all() for n in (1, 63, 64, 65))


def test_same_bits_on_both_vector_instruction_sets():
    names = [i for i in fastdl.config.available_isas() if i in ("avx2", "avx512")]
    found = []
    for isa in names:
        with fastdl.isa(isa):
            found.append([f((1000,), seed=9).numpy().tobytes() for f in (random.uniform, random.normal, random.truncated_normal)])
    assert all(f == found[0] for f in found)


@pytest.mark.parametrize("draw, distribution", [
    (random.uniform, lambda x: x), (random.normal, lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    (random.truncated_normal, lambda x: 0.5 + 0.5 * math.erf(x / math.sqrt(2)) / math.erf(math.sqrt(2)))])
def test_distribution(draw, distribution, c_isa):
    x = np.sort(draw((20000,), seed=7).numpy())
    distance = np.abs(np.array([distribution(v) for v in x]) - (np.arange(len(x)) + 0.5) / len(x)).max()
    assert distance < 1.95 / math.sqrt(len(x))                  # Kolmogorov and Smirnov, 0.1 %


def test_integers_are_equally_likely():
    x = random.randint((60000,), -3, 3, seed=1).numpy()
    assert x.dtype == "int32" and np.abs(np.bincount(x + 3, minlength=6) - 10000).max() < 400
    with pytest.raises(ValueError, match="minval must be below maxval"):
        random.randint((3,), 3, 3)


def test_a_recorded_step_draws_new_numbers_at_each_replay():
    generator, program = random.SeedGenerator(5), Program()
    expected = [random.normal((100,), seed=random.SeedGenerator(5)).numpy().copy()]
    with program.recorded():
        drawn = random.normal((100,), seed=generator)
    assert (drawn.array == expected[0]).all()
    program.run(3)
    assert generator.state.numpy().tolist() == [5, 4]
    again = random.SeedGenerator(5)
    assert (drawn.array == [random.normal((100,), seed=again).numpy() for _ in range(4)][-1]).all()


def test_dropout_backward_drops_the_same(c_isa):
    x = fastdl.tensor(np.ones((50, 41)), requires_grad=True)
    y = random.dropout(x, 0.25, seed=3)
    y.backward(np.full((50, 41), 2, "float32"))
    assert (x.grad == 2 * y.numpy()).all() and set(np.unique(y.numpy())) == {0, np.float32(1 / 0.75)}
    assert abs((y.numpy() == 0).mean() - 0.25) < 0.03
    assert (random.dropout(x, 1.0, seed=3).numpy() == 0).all() and random.dropout(x, 0) is x


def test_noise_shape():
    x = fastdl.tensor(np.ones((20, 7, 30)), requires_grad=True)
    y = random.dropout(x, 0.5, noise_shape=(None, 1, None), seed=3).numpy()
    assert (y == y[:, :1]).all() and 0.4 < (y == 0).mean() < 0.6
    with pytest.raises(ValueError, match="each axis is its size, 1 or None"):
        random.dropout(x, 0.5, noise_shape=(20, 2, 30))


def test_layers():
    x = fastdl.tensor(np.ones((4, 6, 8)))
    layer = layers.Dropout(0.5, seed=1)
    assert layer(x) is x and layer(x, training=False) is x
    assert (layer(x, training=True).numpy() != layer(x, training=True).numpy()).any()
    again = layers.Dropout.from_config(layer.get_config())
    assert (again(x, training=True).numpy() == layers.Dropout(0.5, seed=1)(x, training=True).numpy()).all()
    spatial = layers.SpatialDropout1D(0.5, seed=1)(x, training=True).numpy()
    assert (spatial == spatial[:, :1]).all() and 0 < (spatial == 0).mean() < 1
    assert layers.GaussianNoise(0.1, seed=1)(x, training=True).numpy().std() > 0.05
    with pytest.raises(ValueError, match="rate is 1.5"):
        layers.Dropout(1.5)
    assert ops.Dropout.apply(x, np.array([1, 2])).shape == x.shape
