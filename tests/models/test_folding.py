"""Predictions with folded layers: what a single layer after the other gives, within rounding."""

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.models import Input, Model, Sequential

L = layers


def perturb(model, rng):
    """Weights of which none is what its initializer makes."""
    for w in model.weights:
        w.assign(rng.uniform(0.5, 2, w.shape) if "variance" in w.name else rng.standard_normal(w.shape) * 0.5 + (w.name == "gamma"))


def residual(i, o, x, act):
    y = L.BatchNormalization()(L.Conv2D(o, 3, padding="same")(x))
    short = L.BatchNormalization()(L.Conv2D(o, 1, use_bias=False)(x)) if i != o else x
    return act(L.Add()([short, y]))


def unnormal(x):
    return L.BatchNormalization(center=False, scale=False)(L.Conv2D(4, 2)(x))


CHAINS = {
    "convolution": lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x))),
    "groups": lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, groups=3)(x))),
    "dilation": lambda x: L.Activation("tanh")(L.BatchNormalization()(L.Conv2D(6, 3, dilation_rate=2)(x))),
    "depthwise": lambda x: L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2)(x))),
    "dense": lambda x: L.Activation("relu6")(L.BatchNormalization()(L.Dense(5)(L.Flatten()(x)))),
    "dense on images": lambda x: ops.relu(L.BatchNormalization()(L.Dense(5)(x))),
    "no scale": unnormal,
    "activation only": lambda x: ops.relu6(L.Conv2D(4, 3)(x)),
    "padding": lambda x: L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, 2)(L.ZeroPadding2D(((1, 0), (2, 1)))(x)))),
    "padding and activation": lambda x: L.Conv2D(4, 3, activation="relu")(L.ZeroPadding2D(1)(x)),
    "padding and other activation": lambda x: L.Conv2D(4, 3, activation="gelu")(L.ZeroPadding2D(1)(x)),
    "padding, depthwise": lambda x: L.BatchNormalization()(L.DepthwiseConv2D(3, 2)(L.ZeroPadding2D(1)(x))),
    "padding, pooling": lambda x: L.MaxPooling2D(3, 2)(L.ZeroPadding2D(1)(L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3)(x))))),
    "residual": lambda x: residual(3, 3, x, L.ReLU()),
    "two branches": lambda x: residual(3, 5, x, L.ReLU(max_value=6)),
    "residual without activation": lambda x: L.Conv2D(2, 3)(residual(3, 3, x, L.Identity())),
    "product and residual": lambda x: L.ReLU()(L.Add()([L.BatchNormalization()(L.Conv2D(3, 1)(L.Conv2D(5, 3, padding="same")(x))), x])),
    "bottleneck": lambda x: L.Add()([L.BatchNormalization()(L.Conv2D(6, 1)(L.MaxPooling2D(2, 2, "same")(x))), L.Conv2D(6, 1, 2)(x)]),
    "dense and residual": lambda x: ops.relu6(L.Dense(3)(L.Dense(5)(x)) + x),
    "sum by an operator": lambda x: ops.relu(L.BatchNormalization()(L.Conv2D(3, 1)(x)) + x),
}
APART = {
    "activation before": lambda x: L.BatchNormalization()(L.Conv2D(4, 3, activation="relu")(x)),
    "needed twice": lambda x: (lambda y: L.Concatenate()([y, L.BatchNormalization()(y)]))(L.Conv2D(4, 3)(x)),
    "other axis": lambda x: L.BatchNormalization(axis=1)(L.Conv2D(4, 3)(x)),
    "leaky": lambda x: L.ReLU(negative_slope=0.1)(L.BatchNormalization(axis=1)(L.Conv2D(4, 3)(x))),
    "sum with itself": lambda x: (lambda y: L.Add()([y, y]))(L.Conv2D(4, 3)(x)),
    "sum that broadcasts": lambda x: L.Add()([L.Conv2D(3, 1)(x), L.GlobalAveragePooling2D(keepdims=True)(x)]),
    "padding, pooling of any sign": lambda x: L.MaxPooling2D(2)(L.ZeroPadding2D(1)(x)),
    "padding as wide as the pool": lambda x: L.MaxPooling2D(2, 1)(L.ZeroPadding2D(2)(L.ReLU()(x))),
    "padding, same": lambda x: L.Conv2D(3, 3, padding="same")(L.ZeroPadding2D(2)(x)),
    "channels first": lambda x: L.Conv2D(3, 3, data_format="channels_first")(L.ZeroPadding2D(2)(x)),
}


@pytest.mark.parametrize("name", [*CHAINS, *APART])
def test_as_layer_by_layer(name, rng):
    i = Input((9, 8, 3))
    model = Model(i, {**CHAINS, **APART}[name](i))
    perturb(model, rng)
    x = rng.standard_normal((2, 9, 8, 3)).astype("f")
    wanted = model(x).numpy()                              # gradients might be asked for: nothing is folded
    for _ in range(3):
        found = model.predict_on_batch(x)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    calls = [kernel for kernel, *_ in model.programs()[-1].about[model.programs()[-1].prologue:]]
    assert ("batch_normalize" in calls or "pad" in str(calls) or name not in CHAINS) == (name in APART), calls
    with fastdl.no_grad():
        np.testing.assert_array_equal(model(x).numpy(), found)
    with fastdl.isa("numpy"), fastdl.no_grad():
        np.testing.assert_allclose(model(x).numpy(), found, rtol=0, atol=1e-5 * np.abs(wanted).max())
    perturb(model, rng)
    wanted = model(x).numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def small(**options):
    return Sequential([Input((6, 6, 2)), L.Conv2D(4, 3, name="conv", **options), L.BatchNormalization(name="norm"), L.ReLU(name="act"),
                       L.Flatten(), L.Dense(2, name="dense")])


def test_sequential_and_names(rng):
    model = small()
    x = rng.standard_normal((2, 6, 6, 2)).astype("f")
    for _ in range(2):
        model.predict_on_batch(x)
    program = model.programs()[-1]
    assert list(dict.fromkeys(label for _, label, *_ in program.about[program.prologue:])) == ["conv+norm+act", "dense"]
    assert {"conv+norm+act"} <= {label for _, label, *_ in program.about[:program.prologue]}


def test_attributes_that_change_are_heeded(rng):
    model = small()
    x = rng.standard_normal((2, 6, 6, 2)).astype("f")
    for change in (lambda: None, lambda: setattr(model.get_layer("norm"), "epsilon", 5.0), lambda: setattr(model.get_layer("act"), "max_value", 6),
                   lambda: setattr(model.get_layer("act"), "negative_slope", 0.5), lambda: setattr(model.get_layer("norm"), "trainable", False),
                   lambda: model.get_layer("norm").moving_mean.assign(np.full(4, 3.0))):
        change()
        with fastdl.no_grad():
            np.testing.assert_allclose(model(x).numpy(), model_with_gradients(model, x), rtol=1e-5, atol=1e-6)


def model_with_gradients(model, x):
    return model(x).detach().numpy()


def test_what_is_left_alone(rng):
    x = rng.standard_normal((2, 6, 6, 2)).astype("f")

    class Loud(L.Conv2D):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    class Tapped(L.BatchNormalization):
        pass
    for conv, norm in (Loud(4, 3), L.BatchNormalization()), (L.Conv2D(4, 3), Tapped()), \
            (L.Conv2D(4, 3, activity_regularizer="l2"), L.BatchNormalization()):
        model = Sequential([Input((6, 6, 2)), conv, norm])
        perturb(model, rng)
        for _ in range(2):
            model.predict_on_batch(x)
        assert any(kernel == "batch_normalize" for kernel, *_ in model.programs()[-1].about)
        np.testing.assert_array_equal(model.predict_on_batch(x), model(x).numpy())


def test_masks_are_handed_on(rng):
    i = Input((5, 3))
    model = Model(i, L.ReLU()(L.BatchNormalization()(L.Dense(4)(L.Masking()(i)))))
    x = rng.standard_normal((2, 5, 3)).astype("f")
    x[0, 2:] = 0
    with fastdl.no_grad():
        np.testing.assert_array_equal(model(x).mask.numpy(), x.any(-1))


def test_sigmoid_keeps_its_logits(rng):
    model = Sequential([Input((3,)), L.Dense(1, kernel_initializer="ones"), L.Activation("sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    x = np.full((2, 3), 20, "f")
    for _ in range(3):
        model.reset_metrics()
        assert model.test_on_batch(x, np.zeros((2, 1), "f")) == pytest.approx(60)


def test_training_and_evaluation_agree(rng):
    model = small(use_bias=False)
    model.compile("sgd", "mse")
    x, y = rng.standard_normal((8, 6, 6, 2)).astype("f"), rng.standard_normal((8, 2)).astype("f")
    for _ in range(3):
        model.fit(x, y, epochs=2, verbose=0)
        assert model.evaluate(x, y, verbose=0) == pytest.approx(np.mean((model(x).numpy() - y) ** 2), rel=1e-5)


def test_tensors_are_freed_when_nothing_needs_them(rng):
    i = Input((64, 64, 8))
    x = i
    for _ in range(12):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 1)(x)))
    model = Model(i, x)
    images = rng.standard_normal((2, 64, 64, 8)).astype("f")
    for _ in range(2):
        model.predict_on_batch(images)
    assert model.programs()[-1].nbytes < 3.5 * images.nbytes


@pytest.mark.parametrize("name", ["product and residual", "bottleneck", "dense and residual"])
def test_a_product_takes_in_the_sum(name, rng):
    i = Input((9, 8, 3))
    model = Model(i, CHAINS[name](i))
    perturb(model, rng)
    for _ in range(2):
        model.predict_on_batch(rng.standard_normal((2, 9, 8, 3)).astype("f"))
    program = model.programs()[-1]
    calls = [kernel for kernel, *_ in program.about[program.prologue:]]
    assert not {"activated_sum", "add", "relu", "relu6"} & set(calls), calls


@pytest.mark.parametrize("name", ["convolution", "depthwise", "residual", "two branches", "residual without activation", "sum by an operator",
                                  "padding", "padding, depthwise", "padding, pooling", "padding and other activation"])
def test_training_is_the_same_bit_by_bit(name, rng):
    images, y = rng.standard_normal((6, 9, 8, 3)).astype("f"), rng.standard_normal((6, 4)).astype("f")

    def trained(fold, monkeypatch):
        fastdl.set_random_seed(3)
        i = Input((9, 8, 3))
        model = Model(i, L.Dense(4)(L.GlobalAveragePooling2D()(CHAINS[name](i))))
        if not fold:
            monkeypatch.setattr("fastdl.models.functional.folded", lambda graph, training: graph.nodes)
        model.compile("sgd", "mse")
        for _ in range(4):
            model.train_on_batch(images, y)
        return model
    with pytest.MonkeyPatch.context() as monkeypatch:
        apart = trained(False, monkeypatch)
    together = trained(True, None)
    assert len(together.programs()[0]) < len(apart.programs()[0])
    for a, b in zip(together.get_weights(), apart.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_frozen_normalization_is_not_fused_in_training(rng):
    model = small()
    model.get_layer("norm").trainable = False
    model.compile("sgd", "mse")
    x = rng.standard_normal((2, 6, 6, 2)).astype("f")
    for _ in range(3):
        model.train_on_batch(x, np.zeros((2, 2), "f"))
    assert (model.get_layer("norm").moving_mean.numpy() == 0).all()
