"""The recurrent layers give what Keras 3 gives: outputs, states and gradients for the same weights (records/make_recurrent_record.py)."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

import fastdl
from fastdl import Tensor
from fastdl.layers.serialization import deserialize, serialize
from fastdl.tensor import backward

RECORDS = pathlib.Path(__file__).parent / "records"
spec = importlib.util.spec_from_file_location("make_recurrent_record", RECORDS / "make_recurrent_record.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)
RECORD = json.loads((RECORDS / "keras_recurrent.json").read_text())
CASES = {name: rest for name, *rest in maker.cases(fastdl.layers)}


def call(layer, x, options):
    x = Tensor(x, True)
    options = {k: Tensor(v) if k == "mask" else [Tensor(s) for s in v] for k, v in options.items()}
    outputs = maker.flat(layer(x, **options))
    gradients = backward(outputs, [maker.wave(tuple(o.shape), 5) for o in outputs], targets=[x, *layer.trainable_weights])
    return [o.numpy() for o in outputs], gradients


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(name):
    make, masked, states = CASES[name]
    got, wanted = maker.run(make, masked, states, call, lambda layer: layer.trainable_weights), RECORD[name]
    assert got["weights"] == wanted["weights"]
    for what in "outputs", "gradients":
        assert len(got[what]) == len(wanted[what])
        for g, w in zip(got[what], wanted[what]):
            assert np.shape(g) == np.shape(w)
            np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4, err_msg=what)


@pytest.mark.parametrize("name", CASES)
def test_symbols_have_the_shapes_of_the_outputs_and_configurations_make_the_layer_again(name):
    make, _, _ = CASES[name]
    layer = make()
    described = serialize(layer)
    json.dumps(described)
    again = deserialize(described)
    assert serialize(again) == described
    symbols = maker.flat(again(fastdl.layers.Input(batch_shape=(3, 5, 3))))
    layer.build((3, 5, 3))
    outputs = maker.flat(layer(maker.wave((3, 5, 3), 1)))
    assert [s.shape for s in symbols] == [o.shape for o in outputs]


def test_all_cases_are_recorded():
    assert list(CASES) == list(RECORD)
