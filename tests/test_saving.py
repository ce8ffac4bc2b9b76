"""Saving and loading: what comes back is what was saved, and a broken or hostile file gives a clear error."""

import io
import json
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

import fastdl
from fastdl import Input, Model, Sequential, layers, ops
from fastdl.layers.serialization import deserialize, serialize
from fastdl.saving import files
from fastdl.saving.architecture import MOST_DEPTH, read_json
from fastdl.structure import leaves


class Twice(layers.Layer):
    """A layer of the user's own."""

    def __init__(self, by=2.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return x * self.by


class Net(Model):
    """A model of the user's own."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(units), layers.Dense(units)]

    def call(self, inputs, training=None):
        return self.blocks[1](self.blocks[0](inputs["x"]) + inputs["z"])


def sequential():
    return Sequential([layers.Dense(3, activation="relu", input_shape=(4,)), layers.Flatten(), layers.Dense(2, use_bias=False)])


def functional():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    shared = layers.Dense(3)
    h = ops.concatenate([shared(a) * 2.0, shared(b), a - 1.0], axis=-1)
    inner = Sequential([layers.Dense(2, input_shape=(10,))], name="inner")
    return Model([a, b], {"y": inner(h), "h": h})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 4)).astype("float32")


def same(a, b):
    return all(np.array_equal(s.array, t.array) for s, t in zip(leaves(a), leaves(b), strict=True))


# ---- what is saved comes back ----

def test_sequential(path, x):
    model = sequential()
    model.save(path)
    copy = fastdl.load_model(path)
    assert type(copy) is Sequential and copy.get_config() == model.get_config() and same(model(x), copy(x))
    assert os.listdir(os.path.dirname(path)) == ["model.safetensors"]


def test_functional(path, x):
    model = functional()
    model.save(path)
    copy = fastdl.models.load_model(path)
    assert copy.get_config() == model.get_config() and same(model([x, 2 * x]), copy([x, 2 * x]))


def test_built_by_data(path, x):
    model = Sequential([layers.Dense(3), layers.Dense(2)])
    model(x)
    model.save(path)
    assert same(fastdl.load_model(path)(x), model(x))


def test_own_classes(path, x):
    model = Net(units=2)
    given = {"x": x, "z": np.ones((5, 2), "float32")}
    model(given)
    model.save(path)
    copy = fastdl.load_model(path, custom_objects={"Net": Net})
    assert isinstance(copy, Net) and same(copy(given), model(given))
    with pytest.raises(ValueError, match="there is no layer 'Net' in fastdl\n.*custom_objects"):
        fastdl.load_model(path)
    model = Sequential([Input((4,)), Twice(3.0), layers.Dense(2)])
    model.save(path)
    copy = fastdl.load_model(path, custom_objects={"Twice": Twice})
    assert copy.layers[0].by == 3.0 and same(copy(x), model(x))
    with pytest.raises(ValueError, match="Twice"):
        fastdl.load_model(path)                             # custom objects are known in their own call only
    with pytest.raises(TypeError, match="custom_objects"):
        fastdl.load_model(path, custom_objects={"Twice": "Twice"})


def test_own_activation(path, x):
    def doubled(v):
        return v * 2.0

    model = Sequential([layers.Dense(2, activation=doubled, input_shape=(4,)), layers.Activation(doubled)])
    model.save(path)
    assert same(fastdl.load_model(path, custom_objects={"doubled": doubled})(x), model(x))
    with pytest.raises(ValueError, match="'doubled' is not known"):
        fastdl.load_model(path)
    with pytest.raises(ValueError, match="cannot be saved"):
        Sequential([layers.Dense(2, activation=lambda v: v, input_shape=(4,))]).save(path)


def test_a_layer_as_activation(path, x):
    model = Sequential([layers.Dense(2, activation=layers.LeakyReLU(0.5), input_shape=(4,))])
    model.save(path)
    assert same(fastdl.load_model(path)(x), model(x))


def test_frozen_layers_stay_frozen(path):
    model = sequential()
    model.layers[0].trainable = False
    model.save(path)
    assert len(fastdl.load_model(path).trainable_weights) == 1


def test_json(x):
    model = functional()
    copy = fastdl.models.model_from_json(model.to_json(indent=2))
    assert copy.get_config() == model.get_config() and not same(model([x, x]), copy([x, x]))
    copy.set_weights(model.get_weights())
    assert same(model([x, x]), copy([x, x]))


def test_clone(x):
    model = Sequential([Input((4,)), Twice(3.0), layers.Dense(2)])
    copy = fastdl.models.clone_model(model)
    assert copy.get_config() == model.get_config() and not same(copy(x), model(x)) and copy.layers[0].by == 3.0


def test_random_counters(path, x):
    model = Sequential([layers.Dense(8, input_shape=(4,)), layers.Dropout(0.5)])
    model(x, training=True)
    model.save(path)
    copy = fastdl.load_model(path)
    assert same(copy(x, training=True), model(x, training=True)) and not same(copy(x, training=True), model(x))


def test_layers_as_values():
    layer = deserialize(json.loads(json.dumps(serialize(layers.Dense(3, activation="tanh", name="d")))))
    assert (layer.name, layer.units, layer.built) == ("d", 3, False)


def test_weights(path, x):
    model, other = sequential(), sequential()
    model.save_weights(path)
    other.load_weights(path)                                # other names, the same order
    assert same(model(x), other(x))
    other.save(path)
    model.load_weights(path)                                # a whole model has weights too
    with pytest.raises(ValueError, match="holds weights only"):
        model.save_weights(path), fastdl.load_model(path)
    with pytest.raises(ValueError, match="not built"):
        Sequential([layers.Dense(2)]).load_weights(path)
    with pytest.raises(ValueError, match="not built"):
        Sequential([layers.Dense(2)]).save_weights(path)


def test_weights_that_differ(path, x):
    model = Sequential([layers.Dense(3, input_shape=(4,), name="a"), layers.Dense(2, name="b")])
    model.save_weights(path)
    other = Sequential([layers.Dense(3, input_shape=(4,), name="a"), layers.Dense(5, name="b"), layers.Dense(1, name="c")])
    before = other.get_weights()
    with pytest.raises(ValueError, match="the file lacks c/kernel, c/bias"):
        other.load_weights(path)
    other.pop()
    with pytest.raises(ValueError, match=r"b/(kernel|bias) has another shape or dtype than the model's\n  file .*\n  model"):
        other.load_weights(path)
    assert all(np.array_equal(v, w) for v, w in zip(before, other.get_weights()))
    other.load_weights(path, skip_mismatch=True)
    assert np.array_equal(other.get_weights()[0], model.get_weights()[0]) and np.array_equal(other.get_weights()[2], before[2])


def test_training_goes_on_to_the_same_bits(path, rng):
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.normal(size=(64, 2)).astype("float32")
    model = sequential()
    model.compile(optimizer=fastdl.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.save(path)
    copy = fastdl.load_model(path)
    assert copy.optimizer.get_config() == model.optimizer.get_config() and int(copy.optimizer.iterations) == 4
    first, second = (m.fit(x, y, epochs=2, shuffle=False, verbose=0).history for m in (model, copy))
    assert first == second and list(second) == ["loss", "mae"]
    assert all(np.array_equal(v, w) for v, w in zip(model.get_weights(), copy.get_weights()))
    assert fastdl.load_model(path, compile=False).optimizer is None


def test_compile_with_objects(path, x):
    def own_loss(y_true, y_pred):
        return ops.mean(ops.square(y_pred - y_true), axis=-1)

    model = functional()
    model.compile("sgd", loss={"y": fastdl.losses.Huber(delta=2.0), "h": own_loss}, loss_weights={"y": 1.0, "h": 0.5},
                  metrics={"y": ["mae", fastdl.metrics.MeanSquaredError(name="squared")]})
    model.save(path)
    copy = fastdl.load_model(path, custom_objects={"own_loss": own_loss})
    targets = {"y": np.ones((5, 2), "float32"), "h": np.ones((5, 10), "float32")}
    assert copy.evaluate([x, x], targets, verbose=0, return_dict=True) == model.evaluate([x, x], targets, verbose=0, return_dict=True)
    assert copy.compiled["loss"]["y"].get_config() == model.compiled["loss"]["y"].get_config()


def test_what_cannot_be_saved(path):
    a = Input((4,))
    with pytest.raises(NotImplementedError, match="Python code"):
        Model(a, layers.Lambda(lambda v: v)(a)).save(path)
    with pytest.raises(ValueError, match="a weight that belongs to no layer"):
        Model(a, a * fastdl.Parameter(np.ones(4, "float32"))).save(path)
    assert os.listdir(os.path.dirname(path)) == []


# ---- files ----

def test_overwrite(path):
    sequential().save(path)
    with pytest.raises(FileExistsError):
        sequential().save(path, overwrite=False)
    sequential().save(path)


def test_a_failed_save_leaves_the_old_file(path, x, monkeypatch):
    model = sequential()
    model.save(path)
    expected = model(x)
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        sequential().save(path)
    monkeypatch.undo()
    assert os.listdir(os.path.dirname(path)) == ["model.safetensors"] and same(fastdl.load_model(path)(x), expected)
    with pytest.raises(OSError):
        model.save(os.path.join(path, "below", "a", "file"))


def test_loading_while_it_is_overwritten(path, x):
    model = sequential()
    model.save(path)
    copy = fastdl.load_model(path)
    sequential().save(path)
    assert same(copy(x), model(x))                          # nothing of the old file is still mapped


def header_of(path):
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write(path, header, tensors):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + tensors)


@pytest.fixture
def saved(path):
    """A saved model's file as (path, header, bytes of tensors), to be broken."""
    model = sequential()
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 2), "float32"))
    model.save(path)
    return path, *header_of(path)


def refused(path, match=None):
    began = time.monotonic()
    with pytest.raises(ValueError, match=match) as caught:
        fastdl.load_model(path)
    assert time.monotonic() - began < 5 and path in str(caught.value)
    return str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        fastdl.load_model(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        fastdl.load_model(tmp_path)


def test_truncated_files(saved):
    path, _, _ = saved
    with open(path, "rb") as f:
        whole = f.read()
    for size in [*range(0, 16), 100, len(whole) // 2, len(whole) - 1]:
        with open(path, "wb") as f:
            f.write(whole[:size])
        refused(path)
    with open(path, "wb") as f:
        f.write(whole + b"more")
    refused(path)


def test_files_of_another_kind(path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("config.json", "{}")
    for content, kind in ((archive.getvalue(), "zip"), (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"), (bytes(range(256)) * 4, "no whole"),
                          (pickle.dumps({"a": 1}, protocol=2), "pickle"), (struct.pack("<Q", 2**63) + bytes(100), "no whole"), (b"\0" * 64, "no whole")):
        with open(path, "wb") as f:
            f.write(content)
        refused(path, kind)
    from safetensors.numpy import save_file
    save_file({"a": np.ones(3)}, path)
    refused(path, "not one that fastdl wrote")


def with_model(saved, change):
    """The file with another description of the model: a text, or a function that changes the description."""
    path, header, tensors = saved
    if callable(change):
        description = json.loads(header["__metadata__"]["model"])
        change = json.dumps(change(description) or description)
    header["__metadata__"]["model"] = change
    write(path, header, tensors)
    return path


@pytest.mark.parametrize("text", ["", "{", "null", "3", "[]", '"x"', '{"class_name": "Dense", "class_name": "Dense", "config": {}}', '{"class_name": NaN}',
                                  '{"class_name": "Dense", "config": {"units": 1e999}}', '{"class_name": "Dense", "config": {"units": Infinity}}',
                                  "[" * 100_000, "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "[" + "1," * 100_001 + "1]", "9" * 5000,
                                  '{"class_name": "Dense"}', '{"class_name": ["Dense"], "config": {}}', '{"class_name": "Dense", "config": []}'],
                         ids=lambda text: text[:40])
def test_broken_json(saved, text):
    refused(with_model(saved, text))


def test_long_json():
    with pytest.raises(ValueError, match="at most"):
        read_json(" " * (1 << 24) + "1", "text")


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "Layer", "Lambda", "__class__", "object", "fastdl.layers.Dense", "tensor", "", "Model", "Trainer"])
def test_names_that_are_no_layers(saved, name):
    refused(with_model(saved, lambda d: {"class_name": name, "config": {"function": "os.system", "arguments": {"command": "false"}}}))


def config_of(d, i=1):
    return d["config"]["layers"][i]["config"]


@pytest.mark.parametrize("change", [
    lambda d: config_of(d).update(units=10**9),
    lambda d: config_of(d).update(units=10**30),
    lambda d: config_of(d).update(units="3"),
    lambda d: config_of(d).update(units=-1),
    lambda d: config_of(d).update(units=[3]),
    lambda d: config_of(d).update(unknown=1),
    lambda d: config_of(d).update(name="../../etc"),
    lambda d: config_of(d).update(name=3),
    lambda d: config_of(d).update(dtype="object"),
    lambda d: config_of(d).update(dtype={"a": 1}),
    lambda d: config_of(d).update(trainable="yes") or config_of(d).update(units=4),
    lambda d: config_of(d).update(activation="os.system"),
    lambda d: config_of(d).update(activation={"class_name": "Lambda", "config": {}}),
    lambda d: config_of(d).update(kernel_initializer={"class_name": "os.system", "config": {"command": "false"}}),
    lambda d: config_of(d).update(kernel_regularizer={"module": "os", "class_name": "system", "config": {}}),
    lambda d: config_of(d, 0).update(batch_shape=[None, 10**12]),
    lambda d: config_of(d, 0).update(batch_shape="abc"),
    lambda d: d["config"].update(layers=3),
    lambda d: d["config"].update(layers=[[]]),
    lambda d: d["config"]["layers"].clear(),
    lambda d: d["config"].update(build_input_shape=[None, 4]) or d["config"]["layers"].pop(0),
    lambda d: d["config"]["layers"].append({"class_name": "RepeatVector", "config": {"n": 10**12}}) or config_of(d).update(units=10**8),
    lambda d: d.update(built_on={"shape": [None, 10**12], "dtype": "float32"}) or config_of(d).update(units=7),
    lambda d: d.update(built_on=3),
    lambda d: d.update(extra=1),
    lambda d: {"class_name": "Dense", "config": {"units": 3}}])
def test_hostile_descriptions(saved, change):
    refused(with_model(saved, change))


@pytest.fixture
def graph(path):
    functional().save(path)
    return path, *header_of(path)


@pytest.mark.parametrize("change", [
    lambda c: c["nodes"].reverse(),
    lambda c: c["nodes"].pop(),
    lambda c: c["nodes"].append(3),
    lambda c: c["nodes"][-1].update(arguments=[{"symbol": [99, 0]}]),
    lambda c: c["nodes"][-1].update(arguments=[{"symbol": [-1, 0]}]),
    lambda c: c["nodes"][-1].update(arguments=[{"symbol": [len(c["nodes"]) - 1, 0]}]),
    lambda c: c["nodes"][-1].update(arguments=[{"symbol": "ab"}]),
    lambda c: c["nodes"][-1].update(arguments=[{"call": "os.system"}]),
    lambda c: c["nodes"][-1].update(arguments=[]),
    lambda c: c["nodes"][-1].update(arguments=3),
    lambda c: c["nodes"][-1].update(layer="nobody"),
    lambda c: c["nodes"].append({"op": "os.system", "arguments": [{"symbol": [0, 0]}]}),
    lambda c: c["nodes"].append({"op": "Add", "arguments": [1, 2]}),
    lambda c: c["nodes"].append({"op": "Add", "arguments": [{"symbol": [0, 0]}], "options": {"__class__": 1}}),
    lambda c: c["nodes"].append({"op": "Add", "arguments": [{"symbol": [0, 0]}, {"array": [1], "dtype": "object"}]}),
    lambda c: c["layers"].append(c["layers"][-1]),
    lambda c: c.update(inputs={"symbol": [0, 0]}),
    lambda c: c.update(outputs=[]),
    lambda c: c.update(outputs=[1]),
    lambda c: c.update(more=1),
    lambda c: c.pop("nodes")])
def test_hostile_graphs(graph, change):
    def changed(description):
        change(description["config"])
    refused(with_model(graph, changed))


def test_tensors_that_do_not_fit(saved):
    path, header, tensors = saved
    name = next(n for n in header if n.endswith("dense/kernel") or "/kernel" in n and n.startswith("weights"))
    for change in (lambda h: h[name].update(shape=[h[name]["shape"][1], h[name]["shape"][0]]), lambda h: h[name].update(dtype="I32"),
                   lambda h: h.update({"weights/other": h.pop(name)}), lambda h: h[name].update(dtype="F16", shape=[*h[name]["shape"], 2]),
                   lambda h: h[name].update(shape=[2**62, 2**62]), lambda h: h[name].update(data_offsets=[0, 2**60]),
                   lambda h: h.update({"optimizer/0": h.pop("optimizer/3")}), lambda h: h["optimizer/2"].update(dtype="I32")):
        copy = json.loads(json.dumps(header))
        change(copy)
        write(path, copy, tensors)
        refused(path)


def test_hostile_compile(saved):
    path, header, tensors = saved
    for change in (lambda c: c["optimizer"].update(class_name="os.system"), lambda c: c.update(loss="os.system"), lambda c: c.pop("loss"),
                   lambda c: c["optimizer"]["config"].update(unknown=1), lambda c: c.update(loss={"class_name": "eval", "config": {}}),
                   lambda c: c.update(metrics={"call": 1}), lambda c: c["optimizer"].update(class_name=["Adam"])):
        copy = json.loads(json.dumps(header))
        compiled = json.loads(copy["__metadata__"]["compile"])
        change(compiled)
        copy["__metadata__"]["compile"] = json.dumps(compiled)
        write(path, copy, tensors)
        refused(path)


def test_nothing_outside_is_opened_or_run(saved):
    """An audit hook sees every import by name, process and file that loading opens."""
    import subprocess
    import sys
    code = ("import sys, fastdl, fastdl.models, fastdl.saving, safetensors.numpy\n"
            f"path = {saved[0]!r}\nfastdl.load_model(path)\nevents = []\n"
            "sys.addaudithook(lambda event, args: events.append((event, args)) if event in ('open', 'exec', 'compile', 'import', 'os.system',"
            " 'subprocess.Popen', 'socket.connect', 'pickle.find_class', 'marshal.loads') else None)\n"
            "fastdl.load_model(path)\nbad = [e for e in events if e[0] not in ('open', 'import') or e[0] == 'open' and e[1][0] != path]\nprint(bad)")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
