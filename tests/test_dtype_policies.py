"""Dtype policies: what they are called, which layers they reach, what is saved, and that mixed_bfloat16 learns as float32 does."""

import numpy as np
import pytest

import fastdl
from fastdl import layers
from fastdl.dtype_policies import DTypePolicy, deserialize, get, serialize


@pytest.fixture(autouse=True)
def policy_as_it_was():
    yield
    fastdl.config.set_dtype_policy("float32")


def rounded(x):
    """x to the nearest bfloat16, by counting: 8 bits of the mantissa are kept."""
    mantissa, exponent = np.frexp(np.asarray(x, "float64"))
    return np.ldexp(np.rint(mantissa * 256), exponent - 8).astype("float32")


def test_names():
    policy = DTypePolicy("mixed_bfloat16")
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == ("mixed_bfloat16", "bfloat16", "float32")
    assert DTypePolicy().name == "float32" and DTypePolicy("float64").compute_dtype == "float64"
    assert DTypePolicy.from_config(policy.get_config()) == policy == deserialize(serialize(policy)) == get("mixed_bfloat16") == get(serialize(policy))
    assert get(np.float32) == get(np.dtype("float32")) == get("float32") != policy
    assert get({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}, "registered_name": None}) == policy
    from fastdl import mixed_precision
    mixed_precision.set_global_policy(mixed_precision.Policy("mixed_bfloat16"))
    assert fastdl.config.dtype_policy() == mixed_precision.global_policy() == policy == fastdl.DTypePolicy("mixed_bfloat16")


@pytest.mark.parametrize("name", ["mixed_float16", "bfloat16", "int32", 3])
def test_unknown_policies_are_refused(name):
    with pytest.raises(ValueError, match="known are float32, float64, mixed_bfloat16"):
        fastdl.config.set_dtype_policy(name)
    with pytest.raises(ValueError, match="Dense: dtype"):
        layers.Dense(1, dtype=name)


def test_layers_take_the_policy_of_their_making():
    fastdl.config.set_dtype_policy("mixed_bfloat16")
    layer = layers.Dense(3)
    fastdl.config.set_dtype_policy("float32")
    assert layer.dtype_policy.name == "mixed_bfloat16" and layer.compute_dtype == "bfloat16"
    assert layer.variable_dtype == layer.dtype == "float32" and layers.Dense(3).compute_dtype == "float32"
    x = np.float32([[1 + 2 ** -9, 3 + 2 ** -20]])
    y = layer(x)
    assert y.dtype == "float32" and layer.kernel.dtype == "float32"
    wanted = rounded(x).astype("float64") @ rounded(layer.kernel.numpy())
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-6, atol=1e-7)
    layer.dtype_policy = "float32"
    np.testing.assert_allclose(layer(x).numpy(), x.astype("float64") @ layer.kernel.numpy(), rtol=1e-6, atol=1e-7)


def test_only_products_of_the_layer_are_rounded():
    third = np.float32([[1 / 3]])
    kernel = fastdl.tensor(third)

    class Mixed(fastdl.Layer):
        def call(self, x):
            return fastdl.ops.matmul(x, kernel), x * kernel, layers.Dense(1, kernel_initializer=lambda shape, dtype: third, dtype="float32")(x)

    product, scaled, other = Mixed(dtype="mixed_bfloat16")(third)
    assert product.numpy() == rounded(third) ** 2 != scaled.numpy() == other.numpy() == third ** 2
    assert fastdl.ops.matmul(kernel, kernel).numpy() == third ** 2


def test_gradients_are_products_of_rounded_operands(rng):
    x, w, d = (np.asarray(rng.standard_normal(s), "float32") for s in ((5, 7), (7, 3), (5, 3)))
    layer = layers.Dense(3, use_bias=False, dtype="mixed_bfloat16", kernel_initializer=lambda shape, dtype: w)
    inputs = fastdl.Parameter(x)
    fastdl.ops.sum(layer(inputs) * d).backward()
    x, w, d = (rounded(a).astype("float64") for a in (x, w, d))
    np.testing.assert_allclose(inputs.grad, d @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.kernel.grad, x.T @ d, rtol=1e-5, atol=1e-6)


def test_policies_are_saved(tmp_path):
    model = fastdl.Sequential([fastdl.Input((4,)), layers.Dense(3, dtype="mixed_bfloat16"), layers.Dense(2)])
    assert model.layers[0].get_config()["dtype"] == "mixed_bfloat16"
    model.save(tmp_path / "model.fastdl")
    again = fastdl.load_model(tmp_path / "model.fastdl")
    assert [layer.dtype_policy.name for layer in again.layers] == ["mixed_bfloat16", "float32"]
    x = np.linspace(-1, 1, 20, dtype="float32").reshape(5, 4)
    assert (again.predict(x, verbose=0) == model.predict(x, verbose=0)).all()
    assert layers.Dense.from_config(layers.Dense(3, dtype=DTypePolicy("mixed_bfloat16")).get_config()).compute_dtype == "bfloat16"


def test_learns_as_float32_does():
    images, labels = fastdl.datasets.digits.load_data()[0]
    found = []
    for policy in "float32", "mixed_bfloat16":
        fastdl.config.set_dtype_policy(policy)
        fastdl.set_random_seed(1)
        model = fastdl.Sequential([layers.Dense(64, activation="relu"), layers.Dense(10)])
        model.compile("adam", fastdl.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        model.fit(images.reshape(len(images), -1) / 16, labels, epochs=8, verbose=0)
        found.append(model.evaluate(images.reshape(len(images), -1) / 16, labels, verbose=0, return_dict=True)["accuracy"])
    assert found[0] > 0.95 and abs(found[0] - found[1]) < 0.01


def test_float64_outside_the_twins_is_told():
    with fastdl.isa(fastdl.config.available_isas()[-1]), pytest.raises(TypeError, match="NumPy twins only"):
        layers.Dense(2, dtype="float64")(np.ones((2, 3)))
