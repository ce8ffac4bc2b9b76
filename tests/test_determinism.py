"""The same seed gives the same bits: with any number of threads, recorded or eager, on every instruction set with fused multiply-add."""

import functools
import hashlib

import numpy as np
import pytest

import fastdl
from fastdl import _core, layers

SAMPLES, BATCH, EPOCHS = 75, 32, 5                          # the last batch of an epoch has 11


def dense():
    model = fastdl.Sequential([layers.Dense(64, activation="relu", input_shape=(10,)), layers.Dense(64, activation="relu"), layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    draw = np.random.default_rng(1)
    x = draw.standard_normal((SAMPLES, 10)).astype("float32")
    return model, x, np.sin(x.sum(1, keepdims=True))


def convolutional():
    model = fastdl.Sequential([layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)), layers.MaxPooling2D((2, 2)),
                               layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    draw = np.random.default_rng(2)
    return model, draw.random((SAMPLES, 28, 28, 1), "float32"), draw.integers(0, 10, SAMPLES)


def recurrent():
    model = fastdl.Sequential([layers.Embedding(input_dim=10000, output_dim=64), layers.LSTM(64), layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    draw = np.random.default_rng(3)
    return model, draw.integers(0, 10000, (SAMPLES, 12)).astype("int32"), draw.integers(0, 10, SAMPLES)


def noisy():
    """Normalisation and dropout: statistics over the batch, and random numbers."""
    model = fastdl.Sequential([layers.Conv2D(8, 3, strides=2, padding="same", input_shape=(9, 9, 3)), layers.BatchNormalization(),
                               layers.Activation("relu"), layers.Dropout(0.3), layers.GlobalAveragePooling2D(), layers.Dense(4)])
    model.compile(optimizer="sgd", loss=fastdl.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(4)
    return model, draw.standard_normal((SAMPLES, 9, 9, 3)).astype("float32"), draw.integers(0, 4, SAMPLES)


def rounded():
    """Products of operands rounded to bfloat16, of every kind."""
    fastdl.config.set_dtype_policy("mixed_bfloat16")
    model = fastdl.Sequential([layers.Conv2D(33, 3, strides=2, padding="same", activation="relu", input_shape=(9, 10, 5)),
                               layers.Conv2D(35, 3, padding="same"), layers.Conv2D(9, 2), layers.Reshape((4, -1)), layers.LSTM(19, return_sequences=True), layers.Flatten(), layers.Dense(33), layers.Dense(4)])
    fastdl.config.set_dtype_policy("float32")
    model.compile(optimizer="sgd", loss=fastdl.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(6)
    return model, draw.standard_normal((SAMPLES, 9, 10, 5)).astype("float32"), draw.integers(0, 4, SAMPLES)


PROGRAMS = {program.__name__: program for program in (dense, convolutional, recurrent, noisy, rounded)}
FUSED = [name for name in fastdl.config.available_isas() if name not in ("numpy", "baseline")]


@functools.cache
def trained(name, threads=1, eager=False, isa=None):
    """Hash of every weight and of the history after five epochs."""
    with fastdl.isa(isa):
        _core.set_grain(0)                                  # every call on every thread, however small
        fastdl.config.set_num_threads(threads)
        fastdl.random.set_random_seed(5)
        model, x, y = PROGRAMS[name]()
        if eager:
            model.compile(**model.compiled, run_eagerly=True)
        history = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        weights = [np.asarray(w) for w in model.get_weights()]
    assert all(np.isfinite(w).all() for w in weights)
    return hashlib.sha256(b"".join(w.tobytes() for w in weights) + repr(history.history).encode()).hexdigest()


@pytest.mark.parametrize("name", PROGRAMS)
def test_twice(name):
    assert trained(name) == trained.__wrapped__(name)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", PROGRAMS)
def test_threads(name, threads):
    assert trained(name, threads) == trained(name)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_eager_and_recorded(name, threads):
    assert trained(name, threads, eager=True) == trained(name)


@pytest.mark.parametrize("isa", FUSED[:-1])
@pytest.mark.parametrize("name", PROGRAMS)
def test_instruction_sets(name, isa):
    assert trained(name, 2, isa=isa) == trained(name, 1, isa=FUSED[-1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_another_seed_gives_others(name):
    before = trained(name)
    model, x, y = PROGRAMS[name]()                          # goes on in the sequence of seeds
    model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    assert hashlib.sha256(b"".join(np.asarray(w).tobytes() for w in model.get_weights())).hexdigest() != before
