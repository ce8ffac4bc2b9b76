"""Records what Keras 3 does, for tests/test_keras_parity.py. With a Python that has Keras, in this folder:

    KERAS_BACKEND=jax python make_keras_record.py losses > keras_losses.json
    KERAS_BACKEND=jax python make_keras_record.py signatures > keras_signatures.json

Weights and batches come from seeded NumPy generators; each function takes the module to use: keras, or fastdl.

On TensorFlow, Keras' Adam goes wrong where a batch holds a token twice: it adds the squares of the token's gradients where its formula,
and Keras on JAX or PyTorch, square their sum (keras.ops.square of IndexedSlices). So `repeating` is not run there.
"""

import inspect
import json
import os
import sys

import numpy as np

STEPS, BATCH, SEED = 100, 32, 20


def dense(keras):
    """The primer's dense network, ten batches of it over and over: x (32, 10), y (32, 1)."""
    layers, draw = keras.layers, np.random.default_rng(SEED)
    model = keras.Sequential([layers.Dense(64, activation="relu", input_shape=(10,)), layers.Dense(64, activation="relu"), layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    x = draw.standard_normal((10 * BATCH, 10)).astype("float32")
    return model, x, np.sin(x.sum(1, keepdims=True)) + x[:, :1]


def convolutional(keras):
    """The primer's convolutional network: x (32, 28, 28, 1), y (32)."""
    layers, draw = keras.layers, np.random.default_rng(SEED)
    model = keras.Sequential([layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)), layers.MaxPooling2D((2, 2)),
                              layers.Flatten(), layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    y = draw.integers(0, 10, 10 * BATCH).astype("int32")
    patterns = draw.random((10, 28, 28, 1), "float32")
    return model, 0.2 * patterns[y] + draw.random((len(y), 28, 28, 1), "float32"), y


def recurrent(keras):
    """The primer's recurrent network: x (32, 20) tokens, none twice among 64 samples; y (32), which all tokens leave modulo 10."""
    draw = np.random.default_rng(SEED)
    y = draw.integers(0, 10, 10 * BATCH).astype("int32")
    x = np.empty((len(y), 20), "int32")
    for group in np.split(np.arange(len(y)), len(y) // 64):
        for label in range(10):
            rows = group[y[group] == label]
            x[rows] = 10 * draw.permutation(1000)[:20 * len(rows)].reshape(-1, 20) + label
    return recurrent_network(keras), x, y


def repeating(keras):
    """The same network: x (32, 20) tokens, some of which tell the label and come often; y (32)."""
    draw = np.random.default_rng(SEED)
    y = draw.integers(0, 10, 10 * BATCH).astype("int32")
    x = draw.integers(0, 10000, (len(y), 20)).astype("int32")
    x[:, 3:17:2] = y[:, None] * 7 + draw.integers(0, 7, (len(y), 7))
    return recurrent_network(keras), x, y


def recurrent_network(keras):
    """Embedding, LSTM, Dense; built, for weights to be given."""
    layers = keras.layers
    model = keras.Sequential([layers.Embedding(input_dim=10000, output_dim=64), layers.LSTM(64), layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.build((None, 20))
    return model


def weigh(model):
    """Give the model weights that depend on their shapes only; the forget gate's bias and every other bias stay as they begin."""
    draw, weights = np.random.default_rng(SEED + 1), []
    for w in map(np.asarray, model.get_weights()):
        bound = 0.05 if w.shape[0] == 10000 else np.sqrt(6 / (np.prod(w.shape[:-2], dtype=int) * sum(w.shape[-2:])))
        weights.append(w if w.ndim < 2 else draw.uniform(-bound, bound, w.shape).astype("float32"))
    model.set_weights(weights)


PROGRAMS = dense, convolutional, recurrent, repeating


def losses(keras):
    """What each program does, and the metrics."""
    skipped = [repeating] if keras.backend.backend() == "tensorflow" else []
    return {program.__name__: trained(keras, program) for program in PROGRAMS if program not in skipped} | {"metrics": metrics(keras)}


def trained(keras, program):
    """The losses of 100 steps; and, in a fresh model, what fit, evaluate and predict say."""
    model, x, y = program(keras)
    weigh(model)
    steps = []
    for step in range(STEPS):
        rows = slice(step * BATCH % len(x), step * BATCH % len(x) + BATCH)
        model.reset_metrics()
        steps.append(np.asarray(model.train_on_batch(x[rows], y[rows])).ravel().tolist())
    norms = [float(np.sqrt(np.square(w, dtype="float64").sum())) for w in map(np.asarray, model.get_weights())]
    model, x, y = program(keras)
    weigh(model)
    history = model.fit(x, y, epochs=2, batch_size=64 if program is recurrent else 48, validation_split=0.2, shuffle=False, verbose=0)
    return {
        "steps": steps, "norms": norms, "shapes": [list(w.shape) for w in model.get_weights()], "epochs": history.epoch,
        "history": {k: [float(v) for v in values] for k, values in history.history.items()},
        "evaluate": {k: float(v) for k, v in model.evaluate(x[:100], y[:100], verbose=0, return_dict=True).items()},
        "predict": np.asarray(model.predict(x[:5], verbose=0)).ravel().tolist()}


def metrics(keras):
    """Names and values that evaluate gives, for losses, metrics and kinds of labels."""
    layers, draw = keras.layers, np.random.default_rng(SEED)
    x = draw.standard_normal((50, 6)).astype("float32")
    sparse, found = draw.integers(0, 4, 50), {}
    one_hot, binary, number = np.eye(4, dtype="float32")[sparse], (sparse > 1).astype("float32")[:, None], x[:, :1] * 2
    for units, activation, y, loss, names in [
            (4, "softmax", sparse, "sparse_categorical_crossentropy", ["accuracy", "sparse_categorical_accuracy"]),
            (4, "softmax", one_hot, "categorical_crossentropy", ["acc", "categorical_accuracy"]),
            (1, "sigmoid", binary, "binary_crossentropy", ["accuracy", "binary_accuracy", "mse"]),
            (1, None, number, "mae", ["mse", "mae", "mean_squared_error"]),
            (1, None, number, "mean_absolute_error", None)]:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(units, activation=activation)])
        weigh(model)
        model.compile(optimizer="sgd", loss=loss, metrics=names)
        result = model.evaluate(x, y, verbose=0, return_dict=True)
        found[f"{loss} {names}"] = {name: float(value) for name, value in result.items()}
    return found


FOLDERS = "layers", "optimizers", "losses", "metrics", "callbacks", "initializers", "regularizers", "constraints"


def signatures(keras):
    """For each public class: its arguments in order, with their defaults. A default that JSON lacks is given as text."""
    found = {}
    for folder in FOLDERS:
        for name, value in sorted(vars(getattr(keras, folder)).items()):
            if inspect.isclass(value) and not name.startswith("_"):
                found[f"{folder}.{name}"] = arguments(value)
    for method in "compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch", "summary":
        found[f"Model.{method}"] = arguments(getattr(keras.Model, method))
    return found


def arguments(function):
    """[[name, default], …] without self; a required argument has no default, *args and **kwargs are left out."""
    out = []
    for p in inspect.signature(function).parameters.values():
        if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            out.append([p.name] if p.default is p.empty else [p.name, plain(p.default)])
    return out


def plain(value):
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras as module
    record = {"made with": f"Keras {module.__version__} on {module.backend.backend()}", **globals()[sys.argv[1]](module)}
    rounded = json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.7g}"))
    print("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rounded.items()) + "\n}")
