"""Model: subclasses, layers inside, names that do not clash."""

import numpy as np
import pytest

import fastdl
from fastdl import Input, Model, Sequential, layers
from fastdl.layers.layer import Layer
from fastdl.models.trainer import Trainer
from fastdl.structure import leaves


class Net(Model):
    """Some Dense layers in a list, and a head."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(units), layers.Dense(units)]
        self.head = layers.Dense(1)

    def call(self, inputs, training=None):
        self.training = training
        for block in self.blocks:
            inputs = block(inputs)
        return {"y": self.head(inputs), "features": inputs}


def test_trainer_and_layer_do_not_share_names():
    own = set(vars(Layer)) | set(vars(Model))
    assert not {name for name in set(vars(Trainer)) & own if not name.startswith("__")}


def test_subclass():
    fastdl.clear_session()
    model = Net()
    assert not model.built and model.inputs is None
    y = model(np.ones((2, 4)), training=True)
    assert model.built and y["y"].shape == (2, 1) and model.training is True
    assert [w.path for w in model.weights] == [f"dense{i}/{w}" for i in ("", "_1", "_2") for w in ("kernel", "bias")]
    assert model.layers == [*model.blocks, model.head] and model.get_layer("dense_2") is model.head and model.get_layer(index=0) is model.blocks[0]
    with pytest.raises(ValueError, match="no layer 'x'; there are dense, dense_1, dense_2"):
        model.get_layer("x")
    with pytest.raises(ValueError, match="no layer 7"):
        model.get_layer(index=7)
    with pytest.raises(AttributeError, match="defined by its call"):
        model.output


def test_subclass_built_by_a_shape():
    model = Net()
    model.build((None, 4))
    assert model.built and len(model.weights) == 6 and model.count_params() == 15 + 12 + 4


def test_a_failed_first_call_does_not_build():
    model = Net()
    with pytest.raises(fastdl.ShapeError):
        model(np.ones(3))
    assert not model.built
    model(np.ones((2, 4)))
    assert model.built


def test_subclass_made_of_symbols():
    class Fixed(Model):
        def __init__(self, units, **kwargs):
            x = Input((4,))
            super().__init__(x, layers.Dense(units)(x), **kwargs)

    model = Fixed(3)
    assert model(np.ones((2, 4))).shape == (2, 3) and model.output_shape == (None, 3)
    assert Fixed.from_config(model.get_config()).output_shape == (None, 3)


def test_subclass_in_a_graph():
    fastdl.clear_session()
    x = Input((4,))
    found = Net(name="net")(x)
    model = Model(x, found["y"])
    assert model(np.ones((2, 4))).shape == (2, 1) and len(model.weights) == 6
    nested = Sequential([layers.Dense(4), Sequential([layers.Dense(2)], name="inner")])
    nested(np.ones((1, 3)))
    assert nested.weights[-1].path.startswith("inner/")


def test_call_is_missing():
    class Empty(Model):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define call"):
        Empty()(np.ones((1, 2)))


def test_losses_of_layers_inside():
    model = Sequential([layers.Dense(2, kernel_regularizer="l2", input_shape=(3,)), layers.Dense(2, activity_regularizer="l2")])
    model(np.ones((2, 3)))
    model(np.ones((2, 3)))
    assert len(model.losses) == 2


def test_primer_programs_are_built():
    dense = Sequential([layers.Dense(64, activation="relu", input_shape=(10,)), layers.Dense(64, activation="relu"), layers.Dense(1)])
    images = Sequential([layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)), layers.MaxPooling2D((2, 2)), layers.Flatten(),
                         layers.Dense(10, activation="softmax")])
    assert (dense.count_params(), images.count_params()) == (4929, 54410)
    np.testing.assert_allclose(images(np.ones((2, 28, 28, 1))).array.sum(-1), 1, rtol=1e-5)


def test_leaves_of_outputs_are_tensors():
    assert all(isinstance(t, fastdl.Tensor) for t in leaves(Net()(np.ones((1, 2)))))


@pytest.mark.parametrize("name", ["train_step", "predict_step", "compute_loss"])
def test_steps_of_ones_own_are_refused_rather_than_ignored(name):
    with pytest.raises(TypeError, match=f"defines {name}"):
        type("Own", (fastdl.Model,), {name: lambda self, data: None})
