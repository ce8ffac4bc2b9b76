"""Recording and replay."""

import threading

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.op import Op, empty, kernels
from fastdl.record import Program


def doubled_relu(x):
    y = ops.relu(x)
    total = empty(y.shape)
    kernels.copy(total, y.array, size=y.size)
    kernels.accumulate(total, y.array, size=y.size)
    return fastdl.Tensor(total)


def test_plain_then_recorded_then_replayed(rng):
    step, runs = [], []

    def count(x):
        runs.append(1)
        return doubled_relu(x)
    step = fastdl.record(count)
    kept = []
    for _ in range(5):
        x = rng.standard_normal((3, 5)).astype("f")
        y = step(x)
        kept.append((y, np.maximum(x, 0) * 2))
    assert len(runs) == 2
    for y, wanted in kept:                  # what was returned is not overwritten by later calls
        np.testing.assert_array_equal(y.numpy(), wanted)


def test_other_shapes_and_values_get_their_own_program(rng):
    step = fastdl.record(lambda x, deep: doubled_relu(x) if deep else ops.relu(x))
    for _ in range(3):
        for shape in (2, 3), (4,):
            for deep in True, False:
                x = rng.standard_normal(shape).astype("f")
                np.testing.assert_array_equal(step(x, deep).numpy(), np.maximum(x, 0) * (1 + deep))
    assert len(step.programs) == 4


def test_reading_a_value_is_refused_with_the_way_out():
    step = fastdl.record(lambda x: ops.relu(x) if float(ops.relu(x)) > 0 else x)
    step(np.ones((1,), "f"))
    with pytest.raises(fastdl.RecordingError, match="Return the tensor"):
        step(np.ones((1,), "f"))
    assert ops.relu(np.ones(2)).numpy().sum() == 2          # recording has ended


def test_an_op_in_numpy_is_refused():
    class Sine(Op):
        def shape(self, x):
            return x.shape

        def forward(self, y, x):
            y[...] = np.sin(x)

        cases = [None]
    step = fastdl.record(Sine.apply)
    np.testing.assert_allclose(step(np.ones(3)).numpy(), np.sin(np.ones(3, "f")))
    with pytest.raises(fastdl.RecordingError, match="sine computes without kernels"):
        step(np.ones(3))


def test_memory_of_a_step_is_used_again_within_it(c_isa):
    x = fastdl.tensor(np.ones(1 << 16))
    program = Program()
    with program.recorded():
        y = x
        for _ in range(20):
            y = ops.relu(y)
    assert program.nbytes <= 3 * 4 << 16


def test_a_program_lists_and_times_its_calls():
    x = fastdl.tensor(np.ones((64, 64)))
    program = Program()
    with program.recorded():
        doubled_relu(x)
    text = str(program)
    assert "relu" in text and "accumulate" in text and "size=4096" in text
    profile = program.profile(3)
    assert profile.seconds > 0 and "accumulate" in str(profile) and len(profile.rows) == 3


def test_arrays_from_outside_stay_alive():
    program = Program()
    with program.recorded():
        y = ops.relu(fastdl.tensor(np.arange(-50, 50)).array.astype("f"))
    import gc
    gc.collect()
    [empty((100,)).fill(9) for _ in range(10)]
    program.run()
    np.testing.assert_array_equal(y.numpy(), np.maximum(np.arange(-50, 50), 0))


def test_the_twins_are_recorded_too(rng):
    with fastdl.isa("numpy"):
        step = fastdl.record(doubled_relu)
        for _ in range(4):
            x = rng.standard_normal(7).astype("f")
            np.testing.assert_array_equal(step(x).numpy(), np.maximum(x, 0) * 2)


def test_threads_share_a_recorded_function(rng):
    step = fastdl.record(doubled_relu)
    failed = []

    def work(seed):
        own = np.random.default_rng(seed)
        for _ in range(200):
            x = own.standard_normal((40, 50)).astype("f")
            if not (step(x).numpy() == np.maximum(x, 0) * 2).all():
                failed.append(seed)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed


@pytest.mark.parametrize("batch", [32, 256])
def test_calls_of_the_same_rows_are_chained_and_short_ones_joined(rng, batch):
    def trained(threads):
        fastdl.config.set_num_threads(threads)
        fastdl.random.set_random_seed(3)
        model = fastdl.Sequential([fastdl.layers.Dense(64, activation="relu", input_shape=(10,)), fastdl.layers.Dense(64, activation="relu"),
                                   fastdl.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        losses = [model.train_on_batch(x, y) for _ in range(6)]
        work = model.programs()[0].work
        return losses, [w.tobytes() for w in model.get_weights()], sum(chained for _, _, chained in work)

    x, y = rng.standard_normal((batch, 10)).astype("float32"), rng.standard_normal((batch, 1)).astype("float32")
    try:
        alone, two, four = trained(1), trained(2), trained(4)
    finally:
        fastdl.config.set_num_threads(0)
    assert alone[:2] == two[:2] == four[:2]
    assert alone[2] == 0 and two[2] >= 10


def test_freezing_between_replays_is_heeded():
    model = fastdl.Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(2)])
    optimizer, x = fastdl.optimizers.SGD(0.1), np.ones((5, 3), "float32")
    optimizer.build(model.trainable_weights)

    @fastdl.record
    def step(x):
        ops.mean(ops.square(model(x))).backward()
        optimizer.update(model.trainable_weights)

    for _ in range(4):
        step(x)
    for frozen in True, False, True:
        model.layers[0].trainable = not frozen
        before = [w.copy() for w in model.get_weights()]
        for _ in range(3):
            step(x)
        assert [np.array_equal(a, b) for a, b in zip(before, model.get_weights())] == [frozen, frozen, False, False]
    assert len(step.programs) == 2
