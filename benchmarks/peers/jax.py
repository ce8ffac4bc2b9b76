"""JAX: the whole step under jit, its state donated, images (batch, height, width, channels)."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import networks  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402


def init(threads, variant):
    """JAX takes as many threads as the process has CPUs."""
    return {"jax": jax.__version__}


def weights(shapes):
    """Normal, scaled by the number of inputs; biases zero."""
    draw = np.random.default_rng(0)
    return [jnp.asarray(draw.standard_normal(s, dtype=np.float32) * np.prod(s[:-1]) ** -0.5 if len(s) > 1 else np.zeros(s, np.float32)) for s in shapes]


def dense(w, x):
    """mlp10: (batch, 10) to (batch, 1)."""
    return jax.nn.relu(jax.nn.relu(x @ w[0] + w[1]) @ w[2] + w[3]) @ w[4] + w[5]


def convolutional(w, x):
    """cnn28: (batch, 28, 28, 1) to (batch, 10)."""
    y = jax.nn.relu(lax.conv_general_dilated(x, w[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + w[1])
    y = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.reshape(len(y), -1) @ w[2] + w[3]


def recurrent(w, x):
    """lstm64: (batch, time) to (batch, 10); the projections of all inputs are one product."""
    inputs = (w[0][x] @ w[1] + w[3]).swapaxes(0, 1)

    def cell(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ w[2], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((len(x), 64), jnp.float32)
    return lax.scan(cell, (zero, zero), inputs)[0][0] @ w[4] + w[5]


NETWORKS = {
    "mlp10": (dense, [(10, 64), (64,), (64, 64), (64,), (64, 1), (1,)]),
    "cnn28": (convolutional, [(3, 3, 1, 32), (32,), (5408, 10), (10,)]),
    "lstm64": (recurrent, [(networks.VOCABULARY, 64), (64, 256), (64, 256), (256,), (64, 10), (10,)]),
}


def make(w):
    """(step, sync, information) of a workload."""
    if w["kind"] == "fit":
        raise NotImplementedError
    network, shapes = NETWORKS[w["model"]]
    start, data, turn = weights(shapes), networks.batches(w), 0

    def loss_of(parameters, x, y):
        out = network(parameters, x)
        if w["loss"] == "mse":
            return ((out - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], -1).mean()

    def update(state, x, y):                                # Adam
        parameters, moments, count = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        count = count + 1
        rate = 1e-3 * jnp.sqrt(1 - 0.999 ** count) / (1 - 0.9 ** count)
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(moments, gradients)]
        parameters = [p - rate * m / (jnp.sqrt(v) + 1e-7) for p, (m, v) in zip(parameters, moments)]
        return (parameters, moments, count), loss

    run, zeros = jax.jit(update, donate_argnums=0), jnp.zeros_like
    state = start, [(zeros(p), zeros(p)) for p in start], jnp.float32(0)

    def step():
        nonlocal state, turn
        state, _ = run(state, *data[turn & 3])
        turn += 1

    return step, lambda: jax.block_until_ready(state[0]), {"params": int(sum(p.size for p in start))}
