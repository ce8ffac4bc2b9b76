"""The memory of recorded programs: hardly more than what is needed at the same time, and never two tensors in one place."""

import numpy as np
import pytest

import fastdl
from fastdl import _core, layers as L, ops
from fastdl.models import Input, Model, Sequential
from fastdl.record import Program


def residual_network():
    i = Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding="same")(i)))
    for filters, strides in (16, 1), (24, 2), (40, 2):
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, strides, padding="same")(x)))
        y = L.BatchNormalization()(L.Conv2D(filters, 3, padding="same")(y))
        x = L.ReLU()(L.Add()([y, L.Conv2D(filters, 1, strides)(x)]))
    return Model(i, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def pyramid():
    model = [Input((16, 16, 3))]
    for filters in 16, 24, 40:
        model += [L.Conv2D(filters, 3, padding="same", activation="relu"), L.Conv2D(filters, 3, padding="same", activation="tanh"), L.MaxPooling2D()]
    return Sequential([*model, L.Flatten(), L.Dense(30, activation="relu"), L.Dense(4)])


@pytest.mark.parametrize("network", [residual_network, pyramid])
def test_programs_take_hardly_more_than_they_need(network, rng):
    model = network()
    model.compile("adam", "mse")
    x, y = rng.standard_normal((32, 16, 16, 3)).astype("f"), rng.standard_normal((32, 4)).astype("f")
    for _ in range(2):
        model.train_on_batch(x, y)
        model.predict_on_batch(x)
    for program in model.programs():
        assert 0 < program.peak <= program.nbytes <= 1.2 * program.peak


def test_a_plain_step_leaves_nothing_behind_when_the_next_is_recorded(rng):
    model = pyramid()
    model.compile("adam", "mse")
    x, y = rng.standard_normal((64, 16, 16, 3)).astype("f"), rng.standard_normal((64, 4)).astype("f")
    _core.pool().trim()
    before = _core.pool().nbytes
    for _ in range(3):
        model.train_on_batch(x, y)
    weights = sum(w.array.nbytes for w in model.weights)
    assert _core.pool().nbytes - before < 5 * weights + x.nbytes + (1 << 20) < model.programs()[0].nbytes


def test_trimming_keeps_what_is_in_use(rng):
    kept = [_core.empty((int(n),), "int32") for n in rng.integers(1, 5000, 300)]
    for i, a in enumerate(kept):
        a[...] = i
    del kept[::3]
    assert _core.pool().trim() > 0 and _core.pool().trim() == 0
    more = [_core.empty(a.shape, "int32") for a in kept]
    for a in more:
        a[...] = -1
    for n, a in enumerate(kept):
        assert (a == a[0]).all() and a[0] == 3 * (n // 2) + n % 2 + 1


def test_a_dense_pool_never_gives_memory_twice(rng):
    program, alive = Program(), []
    with program.recorded():
        for step in range(600):
            if alive and rng.random() < 0.48:
                array, value = alive.pop(rng.integers(len(alive)))
                assert (array == value).all()
            else:
                array = _core.empty((int(rng.integers(0, 3000)),), "int32")
                array[...] = step
                alive.append((array, step))
        assert all((array == value).all() for array, value in alive)
        assert all(array.__array_interface__["data"][0] % 64 == 0 for array, _ in alive)
    used = sum(max(array.nbytes, 64) for array, _ in alive)
    assert used <= program.peak <= program.nbytes < 1.6 * program.peak
    peak = program.peak
    del alive, array
    with program.recorded():
        whole = _core.empty((peak,), "uint8")                       # all spans are joined again
    assert program.nbytes < 1.6 * peak and whole.nbytes == peak


def test_where_no_range_can_be_had(rng):
    import subprocess
    import sys
    code = """if True:
        import resource, numpy as np, fastdl
        from fastdl import ops
        from fastdl.record import Program
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        program, x = Program(), fastdl.tensor(np.ones((1000,), "f"))
        with program.recorded():
            y = ops.exp(ops.exp(x)) + x
        program.run()
        assert abs(y.numpy() - np.exp(np.e) - 1).max() < 1e-5 and program.nbytes >= program.peak >= 8000
    """
    pytest.importorskip("resource")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_programs_are_many(rng):
    x = fastdl.tensor(np.ones((10,), "f"))
    programs = [Program() for _ in range(500)]
    for program in programs:
        with program.recorded():
            y = ops.exp(x)
    assert float(y.numpy()[0]) == pytest.approx(np.e)
