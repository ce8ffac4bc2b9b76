"""Layer: names, weights, building, calling, masks, losses, updates."""

import threading
import warnings

import numpy as np
import pytest

import fastdl
from fastdl import layers, ops
from fastdl.layers.context import context, snake_case
from fastdl.layers.layer import Layer, deferred_updates
from fastdl.op import Symbol


class Scale(Layer):
    """x times a weight."""

    supports_masking = True

    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), lambda shape, dtype: np.full(shape, self.start, dtype), name="scale")
        self.count = self.add_weight((), "zeros", trainable=False, name="count")

    def call(self, x, training=None):
        self.seen = training
        return x * self.scale


class Block(Layer):
    """Two Scales, in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [Scale(2.0), {"second": Scale(3.0)}]

    def call(self, x):
        return self.parts[1]["second"](self.parts[0](x))


@pytest.mark.parametrize("name, expected", [("Dense", "dense"), ("Conv2D", "conv2d"), ("MaxPooling2D", "max_pooling2d"), ("LSTM", "lstm"), ("ReLU", "re_lu"),
                                            ("LeakyReLU", "leaky_re_lu"), ("ELU", "elu"), ("PReLU", "p_re_lu"), ("GRUCell", "gru_cell"), ("_Own", "_own"),
                                            ("GlobalAveragePooling2D", "global_average_pooling2d"), ("BatchNormalization", "batch_normalization")])
def test_names_are_those_of_keras(name, expected):
    assert snake_case(name) == expected


def test_automatic_names_count():
    fastdl.clear_session()
    assert [Scale().name for _ in range(3)] == ["scale", "scale_1", "scale_2"]
    fastdl.clear_session()
    assert Scale().name == "scale"
    with pytest.raises(ValueError, match="slash"):
        Scale(name="a/b")


def test_unknown_arguments_and_dtypes():
    with pytest.raises(TypeError, match="Scale: no argument 'colour'"):
        Scale(colour=1)
    with pytest.raises(ValueError, match="dtype"):
        Scale(dtype="int32")


def test_builds_at_the_first_call():
    layer = Scale(2.0, name="s")
    assert not layer.built and layer.weights == []
    y = layer(np.ones((2, 3)))
    assert layer.built and y.dtype == "float32" and np.array_equal(y.array, np.full((2, 3), 2))
    assert [w.path for w in layer.weights] == ["s/scale", "s/count"]
    assert [w.name for w in layer.trainable_weights] == ["scale"] and [w.name for w in layer.non_trainable_weights] == ["count"]
    assert layer.count_params() == 4 and len(layer.variables) == 2
    assert repr(layer) == "<Scale name=s, built=True>"


def test_build_by_hand():
    layer = Scale()
    layer.build((None, 5))
    assert layer.built and layer.scale.shape == (5,)
    with pytest.raises(ValueError, match="not built"):
        Scale().count_params()


def test_dtypes_at_the_edge():
    layer = layers.Identity()
    for given, expected in [("float64", "float32"), ("float16", "float32"), ("uint8", "float32"), ("int64", "int64"), ("int32", "int32"), ("int16", "int32"), ("bool", "bool")]:
        assert layer(np.ones((2, 2), given)).dtype == expected
    assert layers.Identity(dtype="float64")(np.ones((2, 2), "float32")).dtype == "float64"
    assert layers.Identity(autocast=False)(np.ones((2, 2))).dtype == "float64"
    assert layer(np.ones((4, 4))[:, ::2]).array.flags.c_contiguous
    with pytest.raises(TypeError, match="numbers"):
        layer(np.array(["a"]))
    with pytest.raises(TypeError, match="wants tensors"):
        layer([[1.0, 2.0]])
    with pytest.raises(TypeError, match="without inputs"):
        layer()


def test_inputs_by_name():
    assert Scale()(x=np.ones((1, 2))).shape == (1, 2)


def test_init_without_super():
    class Forgets(Layer):
        def __init__(self):
            self.a = 1

    with pytest.raises(RuntimeError, match="super"):
        Forgets()(np.ones(1))


def test_layers_inside():
    fastdl.clear_session()
    block = Block()
    block(np.ones((2, 3)))
    assert [w.path for w in block.weights] == ["block/scale/scale", "block/scale/count", "block/scale_1/scale", "block/scale_1/count"]
    block.trainable = False
    assert not block.trainable_weights and not block.parts[0].trainable and not block.parts[0].scale.requires_grad
    block.trainable = True
    assert [w.name for w in block.trainable_weights] == ["scale", "scale"]       # count was never trainable


def test_frozen_before_it_is_built():
    layer = Scale(trainable=False)
    layer(np.ones((1, 2)))
    assert not layer.scale.requires_grad and layer.trainable_weights == []
    layer.trainable = True
    assert [w.name for w in layer.trainable_weights] == ["scale"]


def test_parameters_as_attributes():
    class Own(Layer):
        def __init__(self):
            super().__init__()
            self.bias = fastdl.Parameter(np.zeros(2, "float32"), "bias")

        def call(self, x):
            return x + self.bias

    layer = Own()
    layer(np.ones((1, 2)))
    assert layer.weights == [layer.bias]


def test_set_weights():
    layer = Scale(name="s")
    layer(np.ones((1, 2)))
    layer.set_weights([[5.0, 6.0], 1.0])
    assert np.array_equal(layer.get_weights()[0], [5, 6])
    with pytest.raises(ValueError, match=r"s/scale has shape \(2,\); the array has \(3,\)"):
        layer.set_weights([[1.0, 2.0, 3.0], 0.0])
    assert np.array_equal(layer.get_weights()[0], [5, 6])
    with pytest.raises(ValueError, match="1 arrays were given; the layer has 2"):
        layer.set_weights([[1.0, 2.0]])
    copy = layer.get_weights()[0]
    copy[...] = 0
    assert layer.scale.array[0] == 5


def test_same_weight_name_twice():
    layer = Layer(name="a")
    assert [layer.add_weight((1,), "zeros", name="w").name for _ in range(3)] == ["w", "w_1", "w_2"]


def test_initializer_of_wrong_shape():
    with pytest.raises(ValueError, match="initializer returned shape"):
        Layer().add_weight((2,), lambda shape, dtype: np.zeros(3, dtype))


def test_training_flag():
    block = Block()
    x = np.ones((1, 2))
    block(x)
    assert block.parts[0].seen is None
    block(x, training=True)
    assert block.parts[0].seen is True
    assert context.training is None
    inner = Scale()
    inner(x, training=False)
    assert inner.seen is False

    class Decides(Layer):
        def __init__(self):
            super().__init__()
            self.own = Scale()

        def call(self, x, training=None):
            return self.own(x, training=False)

    layer = Decides()
    layer(x, training=True)
    assert layer.own.seen is False


def test_training_flag_of_another_thread():
    seen = []

    class Looks(Layer):
        def call(self, x, training=None):
            thread = threading.Thread(target=lambda: seen.append(context.training))
            thread.start()
            thread.join()
            return x

    Looks()(np.ones(1), training=True)
    assert seen == [None]


def test_failing_call_restores_the_context():
    class Fails(Layer):
        def call(self, x):
            raise KeyError("why")

    with pytest.raises(KeyError) as caught:
        Fails(name="f")(np.ones((2, 3)), training=True)
    assert context.training is None and context.outermost is None and fastdl._core.get_label() == ""
    assert caught.value.__notes__ == ["  in f (Fails), called on (2, 3)"]


def test_masks_pass_through():
    x, mask = fastdl.tensor(np.ones((2, 3))), fastdl.tensor(np.array([True, False]))
    x.mask = mask
    assert Scale()(x).mask is mask and layers.Identity()(x).mask is mask
    with pytest.warns(UserWarning, match="does not support"):
        Block()(x)

    class Uses(Layer):
        def call(self, x, mask=None):
            self.got = mask
            return x * 1.0

    layer = Uses()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer(x)
        assert layer.got is mask
        layer(np.ones((2, 3)), mask=np.array([True, True]))
        assert layer.got.dtype == "bool"


def test_losses_are_those_of_the_last_call():
    class Adds(Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x * 1.0

    class Outer(Layer):
        def __init__(self):
            super().__init__()
            self.inner = Adds()

        def call(self, x):
            return self.inner(self.inner(x))

    layer = Outer()
    for _ in range(2):
        layer(np.ones((2, 2)))
        assert [float(loss) for loss in layer.losses] == [4, 4]


def test_regularizers_count_for_trainable_weights():
    layer = layers.Dense(2, kernel_regularizer=fastdl.regularizers.L2(0.5), activity_regularizer=fastdl.regularizers.L2(1.0))
    y = layer(np.ones((4, 3)))
    activity, weights = [float(loss) for loss in layer.losses]
    np.testing.assert_allclose(weights, 0.5 * (layer.kernel.array ** 2).sum(), rtol=1e-6)
    np.testing.assert_allclose(activity, (y.array ** 2).sum() / 4, rtol=1e-6)
    layer.trainable = False
    assert len(layer.losses) == 1


def test_updates_at_once_or_deferred():
    layer = Scale()
    layer(np.ones((1, 2)))
    layer.add_update(layer.scale, fastdl.tensor([7.0, 8.0]))
    assert np.array_equal(layer.scale.array, [7, 8])
    with deferred_updates() as updates:
        layer.add_update(layer.scale, fastdl.tensor([1.0, 1.0]))
    assert np.array_equal(layer.scale.array, [7, 8])
    assert updates[0][0] is layer.scale and np.array_equal(updates[0][1].array, [1, 1])


def test_symbols():
    layer = Scale()
    y = layer(Symbol((None, 3)))
    assert isinstance(y, Symbol) and y.shape == (None, 3) and layer.scale.shape == (3,)
    assert layer.output is y and layer.input.shape == (None, 3)
    layer(Symbol((None, 3)))
    with pytest.raises(AttributeError, match="2 times"):
        layer.output
    assert layer.compute_output_shape((7, 3)) == (7, 3)
    assert Block().compute_output_shape((None, 4)) == (None, 4)


def test_compute_output_shape_of_a_subclass_is_asked():
    class Odd(Layer):
        def call(self, x):
            return fastdl.tensor(np.asarray(x)[:, :1])

        def compute_output_shape(self, input_shape):
            return (input_shape[0], 1)

    assert Odd()(Symbol((None, 3))).shape == (None, 1)
    assert Odd()(np.ones((2, 3))).shape == (2, 1)


def test_several_inputs():
    class Two(Layer):
        def build(self, a_shape, b_shape):
            self.shapes = a_shape, b_shape

        def call(self, a, b):
            return a + b

    layer = Two()
    assert layer(np.ones((2, 3)), np.ones((2, 3))).shape == (2, 3)
    assert layer.shapes == ((2, 3), (2, 3))
    assert Two()(Symbol((None, 3)), b=Symbol((None, 3))).shape == (None, 3)

    class Listed(Layer):
        def build(self, input_shape):
            self.shapes = input_shape

        def call(self, inputs):
            return inputs[0] + inputs[1]

    layer = Listed()
    layer([np.ones((2, 3)), np.ones((2, 3))])
    assert layer.shapes == [(2, 3), (2, 3)]


def test_config_of_plain_arguments():
    layer = Scale(4.0, name="four", trainable=False)
    assert layer.get_config() == {"name": "four", "trainable": False, "dtype": "float32", "start": 4.0}
    copy = Scale.from_config(layer.get_config())
    assert (copy.name, copy.start, copy.trainable) == ("four", 4.0, False)

    class Holds(Layer):
        def __init__(self, thing):
            super().__init__()

    with pytest.raises(NotImplementedError, match="its argument thing is ndarray"):
        Holds(np.ones(1)).get_config()


def test_gradients_flow_to_weights():
    layer = Scale(3.0)
    y = ops.sum(layer(np.ones((2, 2))))
    y.backward()
    assert np.array_equal(layer.scale.grad, [2, 2])


@pytest.mark.parametrize("layer", [layers.Flatten, layers.MaxPooling2D, layers.BatchNormalization, layers.ReLU, lambda **k: layers.Dense(2, **k),
                                   lambda **k: layers.EinsumDense("ab,bc->ac", 2, **k)])
def test_an_activity_regularizer_is_saved(layer):
    one = layer(activity_regularizer="l1")
    again = type(one).from_config(one.get_config())
    assert again.activity_regularizer.get_config() == one.activity_regularizer.get_config()
