"""fastdl, for rivals.py and for a harness with `common` and `keras_models` (its own workloads and models)."""

import os

import fastdl
import numpy as np
from fastdl.record import Program

try:
    import keras_models as networks
    from common import batches, rnd
except ModuleNotFoundError:
    import networks
    from networks import batches


def init(threads, variant):
    """Set the threads; the variant is an instruction set, 'bf16' or 'eager'."""
    fastdl.config.set_num_threads(threads)
    if variant == "bf16":
        fastdl.config.set_dtype_policy("mixed_bfloat16")
    elif variant and variant != "eager":
        fastdl.isa(variant)
    init.eager = variant == "eager"
    return {"fastdl": fastdl.__version__}


def make(w):
    """(step, sync, information) of a workload; NotImplementedError for one that fastdl lacks."""
    if w["kind"] == "kernel":
        return kernel(w)
    if w["kind"] == "fit":
        return networks.fit(w, fastdl, os.environ.get("MNIST_NPZ", "mnist.npz"))
    try:
        model = networks.build(w, fastdl)
    except AttributeError as error:                         # a layer that fastdl does not have
        raise NotImplementedError(str(error)) from None
    networks.compile_(model, w, fastdl, **{"run_eagerly": True} if init.eager else {})
    data, turn = batches(w), 0
    run = model.train_on_batch if w["kind"] == "train" else lambda x, y: model.predict_on_batch(x)

    def step():
        nonlocal turn
        x, y = data[turn & 3]
        turn += 1
        run(x, y)

    return step, None, {"params": int(model.count_params())}


# ---- kernels: the harness's, recorded, so that what is timed is the kernels themselves ----

def kernel(w):
    """An op on operands that are tensors already, forward or forward and backward, replayed."""
    if w["op"] == "adam":
        optimizer, parameter = fastdl.optimizers.Adam(1e-3), fastdl.Parameter(fastdl.tensor(rnd(w["n"])).array)
        gradient = fastdl.tensor(rnd(w["n"], seed=1, scale=1e-3))
        return replayed(lambda: optimizer.apply([gradient], [parameter])), None, {}
    try:
        function, inputs, backward = operation(w)
    except (AttributeError, TypeError) as error:
        raise NotImplementedError(str(error)) from None
    inputs = [fastdl.tensor(a, requires_grad=backward and np.asarray(a).dtype.kind == "f") for a in inputs]
    if not backward:
        with fastdl.no_grad():
            return replayed(lambda: function(*inputs)), None, {}
    made = function(*inputs)
    seed = fastdl.tensor(np.ones(made.shape, "float32"))    # a tensor, as the other libraries' is: it begins where a vector does
    if w["op"] in ("convbwd", "scatter"):                   # of these the other libraries time the gradients alone
        return replayed(lambda: made.backward(seed, retain_graph=True)), None, {}
    return replayed(lambda: function(*inputs).backward(seed)), None, {}


def replayed(function):
    """The function as a program that is recorded once."""
    function()
    program = Program()
    with program.recorded():
        program.result = function()
    return program.run


def operation(w):
    """(function, inputs, with gradients) of a kernel workload."""
    ops, name = fastdl.ops, w["op"]
    if name == "gemm":
        return ops.matmul, (rnd(w["M"], w["K"]), rnd(w["K"], w["N"])), False
    if name in ("conv", "convbwd"):
        inputs = rnd(w["n"], w["h"], w["h"], w["c"]), rnd(w["r"], w["r"], w["c"] // w["g"], w["k"])
        sides = ((w["p"], w["p"]),) * 2
        return lambda x, k: ops.conv2d(x, k, strides=w["s"], padding=sides, groups=w["g"]), inputs, name == "convbwd"
    if name.startswith(("maxpool", "avgpool")):
        pool = ops.max_pool2d if name.startswith("max") else ops.average_pool2d
        return lambda x: pool(x, pool_size=(w["r"],) * 2, strides=(w["s"],) * 2), (rnd(*w["shape"]),), name.endswith("_fb")
    if name in ("softmax", "gelu", "tanh", "sigmoid", "exp"):
        return getattr(ops, name), (rnd(*w["shape"]),), False
    if name.startswith(("layernorm", "batchnorm")):
        layer = (fastdl.layers.LayerNormalization if name.startswith("layer") else fastdl.layers.BatchNormalization)()
        layer.build(w["shape"])
        return lambda x: layer(x, training=True), (rnd(*w["shape"]),), name.endswith("_fb")
    if name.startswith("lstm"):
        layer = fastdl.layers.LSTM(w["H"], return_sequences=True)
        layer.build((w["B"], w["T"], w["I"]))
        return layer, (rnd(w["B"], w["T"], w["I"]),), name.endswith("_fb")
    if name in ("gather", "scatter"):
        index = fastdl.tensor(np.random.default_rng(0).integers(0, w["V"], w["n"]).astype("int32"))
        return lambda table: ops.embedding(index, table), (rnd(w["V"], w["D"]),), name == "scatter"
    raise NotImplementedError(name)
