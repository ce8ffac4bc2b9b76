"""Normalisation layers in a step of training."""

import numpy as np

import fastdl
from fastdl import layers


def test_moving_statistics_follow_each_call_of_a_step(rng):
    x, y = rng.standard_normal((12, 3, 4)).astype("float32"), np.zeros((12, 3, 4), "float32")
    norm = layers.BatchNormalization(momentum=0.5)
    inputs = fastdl.Input((3, 4))
    shared = fastdl.Model(inputs, norm(norm(inputs)))
    stepwise = fastdl.Sequential([inputs, layers.TimeDistributed(layers.BatchNormalization(momentum=0.5))])
    for eager in True, False:
        for model in shared, stepwise:
            for w, value in zip(model.weights[-2:], (0.0, 1.0)):
                w.assign(np.full(4, value))
            model.compile(fastdl.optimizers.SGD(0.0), "mse", run_eagerly=eager)
            model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        means = []
        for batches in [[p, (p - p.mean((0, 1))) / np.sqrt(p.var((0, 1)) + 1e-3)] for p in (x[:4], x[4:8], x[8:])], [p.swapaxes(0, 1) for p in (x[:4], x[4:8], x[8:])]:
            mean = np.zeros(4)
            for _ in range(2):
                for batch in batches:
                    for one in batch:
                        mean = 0.5 * mean + 0.5 * one.reshape(-1, 4).mean(0)
            means.append(mean)
        np.testing.assert_allclose(shared.weights[-2].array, means[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stepwise.weights[-2].array, means[1], rtol=1e-4, atol=1e-6)


def test_a_stateful_layer_called_twice_in_a_step_goes_on(rng):
    x = rng.standard_normal((2, 3, 4)).astype("float32")
    inputs = fastdl.Input(batch_shape=(2, 3, 4))
    layer = layers.GRU(5, stateful=True)
    model = fastdl.Model(inputs, [layer(inputs), layer(inputs)])
    model.compile(fastdl.optimizers.SGD(0.0), "mse")
    layer.reset_state()
    twice = model.predict(np.concatenate([x] * 3), batch_size=2, verbose=0)
    layer.reset_state()
    model.fit(np.concatenate([x] * 3), [np.zeros((6, 5))] * 2, batch_size=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(layer.states[0].array, twice[1][-2:], rtol=1e-5, atol=1e-6)
