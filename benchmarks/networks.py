"""The three networks and their batches, for every library that speaks Keras; the others build the same by hand."""

import numpy as np

WORKLOADS = {
    "mlp10_b32": dict(kind="train", model="mlp10", batch=32, loss="mse"),
    "cnn28_b32": dict(kind="train", model="cnn28", batch=32, loss="ce"),
    "lstm64_s80_b32": dict(kind="train", model="lstm64", batch=32, loss="ce", sequence=80),
    "fit_mnist_b32": dict(kind="fit", model="cnn28", batch=32),
}
VOCABULARY = 10000


def build(w, keras):
    """The network of a workload, with the module `keras`: Keras itself, or fastdl. Outputs are logits, except for fit."""
    layers = keras.layers
    if w["model"] == "mlp10":
        parts = [keras.Input((10,)), layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), layers.Dense(1)]
    elif w["model"] == "cnn28":
        parts = [keras.Input((28, 28, 1)), layers.Conv2D(32, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2)), layers.Flatten(),
                 layers.Dense(10, activation="softmax" if w["kind"] == "fit" else None)]
    else:
        parts = [keras.Input((w["sequence"],), dtype="int32"), layers.Embedding(VOCABULARY, 64), layers.LSTM(64), layers.Dense(10)]
    return keras.Sequential(parts)


def compile_(model, w, keras, **more):
    """Adam, and the loss of the workload."""
    loss = "mse" if w["loss"] == "mse" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, **more)


def batches(w, n=4):
    """n batches (x, y) of a workload: images (batch, height, width, channels), tokens int32."""
    draw, size, out = np.random.default_rng(0), w["batch"], []
    for _ in range(n):
        if w["model"] == "mlp10":
            x = draw.standard_normal((size, 10), dtype=np.float32)
            y = np.sin(x.sum(1, keepdims=True))
        elif w["model"] == "cnn28":
            x, y = draw.standard_normal((size, 28, 28, 1), dtype=np.float32), draw.integers(0, 10, size).astype(np.int32)
        else:
            x, y = draw.integers(0, VOCABULARY, (size, w["sequence"])).astype(np.int32), draw.integers(0, 10, size).astype(np.int32)
        out.append((x, y))
    return out


def fit(w, keras, npz):
    """One epoch of MNIST as a user writes it, progress bar on: a fresh model, fit. sync computes the test accuracy."""
    d = np.load(npz)
    scale = lambda x: (x.astype("float32") / 255)[..., None]
    x, y, x_test, y_test = scale(d["x_train"]), d["y_train"].astype("int32"), scale(d["x_test"]), d["y_test"].astype("int32")
    state = {}

    def step():
        model = build(w, keras)
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=w["batch"], epochs=1)
        state["model"] = model
        return state

    def sync():
        if "model" in state:
            found = np.asarray(state.pop("model").predict(x_test, batch_size=1000, verbose=0)).argmax(1)
            state["acc"] = float((found == y_test).mean())

    return step, sync, {}
