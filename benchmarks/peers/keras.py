"""Keras 3 on TensorFlow: train_on_batch and fit as a user calls them; the variant 'graph' is an own tf.function step, 'xla' the same
compiled by XLA."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras  # noqa: E402
import networks  # noqa: E402
import tensorflow as tf  # noqa: E402


def init(threads, variant):
    """Set the threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    init.variant = variant
    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def make(w):
    """(step, sync, information) of a workload."""
    if w["kind"] == "fit":
        if init.variant:
            raise NotImplementedError
        return networks.fit(w, keras, os.environ["MNIST_NPZ"])
    model = networks.build(w, keras)
    networks.compile_(model, w, keras)
    data, turn, last = networks.batches(w), 0, None
    run = model.train_on_batch
    if init.variant:
        loss_of, optimizer, weights = keras.losses.get(model.loss), model.optimizer, model.trainable_variables
        optimizer.build(weights)

        @tf.function(jit_compile=init.variant == "xla")
        def train(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return loss

        run = lambda x, y: train(tf.constant(x), tf.constant(y))

    def step():
        nonlocal turn, last
        last = run(*data[turn & 3])
        turn += 1

    return step, lambda: last.numpy() if hasattr(last, "numpy") else None, {"params": int(model.count_params())}
