"""Records what Keras 3 computes for losses, metrics, optimisers and normalisation. With a Python that has Keras, in this folder:

    python make_learning_record.py > keras_learning.json

Inputs come from a seeded NumPy generator; each function takes the module to use: keras, or fastdl.
"""

import json
import os

import numpy as np

draw = np.random.default_rng(0)
TARGETS, CHANCES = draw.integers(0, 2, (6, 5)).astype("float32"), draw.uniform(0, 1, (6, 5)).astype("float32")
CHANCES[0] = 0, 1, 0.5, 1, 0
LOGITS = (draw.standard_normal((6, 5)) * 30).astype("float32")
LABELS = draw.integers(0, 5, 6)
ONE_HOT, WEIGHTS = np.eye(5, dtype="float32")[LABELS], draw.uniform(0, 2, 6).astype("float32")
SHARES = CHANCES / CHANCES.sum(1, keepdims=True)
GRADIENTS = [(draw.standard_normal((7, 3)).astype("float32"), draw.standard_normal(5).astype("float32")) for _ in range(8)]
BEGIN = draw.standard_normal((7, 3)).astype("float32"), draw.standard_normal(5).astype("float32")
IMAGES = (draw.standard_normal((8, 4, 6)) * 2 + 1).astype("float32")


def losses(keras):
    """Every loss with every reduction, with and without weights; cross-entropies from logits, probabilities and activations."""
    found, module = {}, keras.losses
    for name in ("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "LogCosh", "Hinge",
                 "SquaredHinge", "Poisson", "KLDivergence", "Huber", "BinaryCrossentropy", "CategoricalCrossentropy"):
        y = (ONE_HOT, SHARES) if name.startswith("Cat") else (TARGETS, CHANCES)
        for reduction in "sum_over_batch_size", "sum", "none", "mean_with_sample_weight":
            for weights in None, WEIGHTS:
                found[f"{name} {reduction} {weights is not None}"] = getattr(module, name)(reduction=reduction)(*y, sample_weight=weights)
    for from_logits in True, False:
        p, q = (LOGITS, LOGITS) if from_logits else (CHANCES, SHARES)
        for smoothing in 0.0, 0.1:
            about = dict(from_logits=from_logits, label_smoothing=smoothing)
            found[f"binary {about}"] = module.BinaryCrossentropy(**about)(TARGETS, p)
            found[f"categorical {about}"] = module.CategoricalCrossentropy(**about)(ONE_HOT, q)
        found[f"sparse {from_logits}"] = module.SparseCategoricalCrossentropy(from_logits=from_logits)(LABELS, q)
        found[f"sparse ignoring {from_logits}"] = module.SparseCategoricalCrossentropy(from_logits=from_logits, ignore_class=2)(LABELS, q)
    tensor = keras.ops.convert_to_tensor if hasattr(keras.ops, "convert_to_tensor") else keras.tensor
    softmax, sigmoid = (getattr(keras.activations, name)(tensor(LOGITS)) for name in ("softmax", "sigmoid"))
    found["sparse of softmax"] = module.SparseCategoricalCrossentropy()(LABELS, softmax)
    found["categorical of softmax"] = module.CategoricalCrossentropy()(ONE_HOT, softmax)
    found["binary of sigmoid"] = module.BinaryCrossentropy()(TARGETS, sigmoid)
    return found


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1), "momentum": lambda o: o.SGD(0.1, momentum=0.9),
    "nesterov": lambda o: o.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01), "rmsprop": lambda o: o.RMSprop(0.01),
    "centered": lambda o: o.RMSprop(0.01, centered=True, momentum=0.5), "adam": lambda o: o.Adam(0.01),
    "amsgrad": lambda o: o.Adam(0.01, amsgrad=True), "adamw": lambda o: o.AdamW(0.01), "clipnorm": lambda o: o.Adam(0.01, clipnorm=0.5),
    "clipvalue": lambda o: o.SGD(0.01, clipvalue=0.5), "global_clipnorm": lambda o: o.SGD(0.1, global_clipnorm=0.5),
    "ema": lambda o: o.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3),
    "exponential": lambda o: o.SGD(o.schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True)),
    "cosine": lambda o: o.SGD(o.schedules.CosineDecay(0.1, 5, alpha=0.1, warmup_target=0.3, warmup_steps=3)),
    "polynomial": lambda o: o.SGD(o.schedules.PolynomialDecay(0.1, 4, power=2.0, cycle=True)),
    "piecewise": lambda o: o.SGD(o.schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.2, 0.3])),
    "inverse": lambda o: o.SGD(o.schedules.InverseTimeDecay(0.1, 3, 0.5)),
}


def optimizers(keras):
    """Two parameters after eight updates."""
    found = {}
    for name, make in OPTIMIZERS.items():
        optimizer = make(keras.optimizers)
        variables = [keras.Variable(v) for v in BEGIN] if hasattr(keras, "Variable") else [keras.Parameter(v.copy(), "v") for v in BEGIN]
        for gradients in GRADIENTS:
            optimizer.apply([keras.ops.convert_to_tensor(g) if hasattr(keras, "Variable") else g for g in gradients], variables)
        found[name] = np.concatenate([np.asarray(v).ravel() for v in variables])
    return found


def normalization(keras):
    """Outputs in training and inference, and the weights afterwards."""
    found, layers = {}, keras.layers
    for name, layer in {"batch": layers.BatchNormalization(momentum=0.7), "batch axis 1": layers.BatchNormalization(axis=1),
                        "layer": layers.LayerNormalization(), "layer axes 1, 2": layers.LayerNormalization(axis=[1, 2]),
                        "layer axis 1": layers.LayerNormalization(axis=1), "rms": layers.RMSNormalization()}.items():
        layer.build(IMAGES.shape)
        layer.set_weights([w + np.linspace(0.1, 0.5, w.size, dtype="float32").reshape(w.shape) for w in layer.get_weights()])
        if name.startswith("batch"):
            found[f"{name} training"] = layer(IMAGES, training=True)
        found[name] = layer(IMAGES)
        for i, w in enumerate(layer.get_weights()):
            found[f"{name} weight {i}"] = w
    return found


def metrics(keras):
    """Every metric after one batch, with and without weights."""
    found, m = {}, keras.metrics
    for metric, y in [
            (m.Accuracy(), (LABELS, LABELS[::-1].copy())), (m.BinaryAccuracy(), (TARGETS, CHANCES)), (m.CategoricalAccuracy(), (ONE_HOT, SHARES)),
            (m.SparseCategoricalAccuracy(), (LABELS, SHARES)), (m.TopKCategoricalAccuracy(k=2), (ONE_HOT, SHARES)),
            (m.SparseTopKCategoricalAccuracy(k=3), (LABELS, SHARES)), (m.RootMeanSquaredError(), (TARGETS, CHANCES)),
            (m.Precision(thresholds=[0.3, 0.6]), (TARGETS, CHANCES)), (m.Recall(top_k=2), (TARGETS, CHANCES)),
            (m.Precision(class_id=1, name="precision of class 1"), (TARGETS, CHANCES)), (m.FalseNegatives(), (TARGETS, CHANCES)),
            (m.MeanSquaredError(), (TARGETS, CHANCES)), (m.BinaryCrossentropy(), (TARGETS, CHANCES)), (m.Sum(), (CHANCES,)), (m.Mean(), (CHANCES,))]:
        for weights in None, WEIGHTS:
            metric.reset_state()
            metric.update_state(*y, sample_weight=weights)
            found[f"{type(metric).__name__} {metric.name} {weights is not None}"] = metric.result()
    return found


PARTS = losses, optimizers, normalization, metrics

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras as module
    record = {"made with": f"Keras {module.__version__} on {module.backend.backend()}"}
    for part in PARTS:
        record[part.__name__] = {k: np.asarray(v, "float64").tolist() for k, v in part(module).items()}
    rounded = json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.8g}"))
    print("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rounded.items()) + "\n}")
