"""The graph of a functional model as plain values, and back."""

import numpy as np

from ..layers.core import InputLayer
from ..layers.layer import Layer
from ..layers.serialization import deserialize, serialize
from ..models.functional import _key
from ..op import Symbol, ops_by_name
from ..structure import flatten
from ..tensor import Tensor

# Marks of what JSON has no word for: {"symbol": [node, output]}, {"tuple": […]}, {"dict": {…}}, {"slice": […]}, {"array": […], "dtype": …}
MARKS = {"symbol", "tuple", "dict", "slice", "ellipsis", "float", "array"}


def graph_config(graph):
    """{"layers", "nodes", "inputs", "outputs"}: each node names a layer or an op and holds the arguments of the call."""
    numbers = {}
    for symbol, name in zip(graph.input_symbols, graph.input_names):
        if symbol.made_by is None or not isinstance(symbol.made_by.operation, InputLayer):
            raise ValueError(f"the model begins at {name!r}, inside another model; only a model whose inputs come from Input() can be described")
        numbers[_key(symbol)] = [len(numbers), 0]
    nodes = [{"layer": symbol.made_by.operation.name} for symbol in graph.input_symbols]
    for node in graph.nodes:
        for index, _ in node.results:
            numbers[id(node.made), index] = [len(nodes), index]
        entry = {"layer": node.name} if node.is_layer else {"op": node.operation.__name__}
        if not node.is_layer and ops_by_name.get(node.operation.__name__) is not node.operation:
            raise ValueError(f"the op {node.operation.__name__} is not one of fastdl's; put it into a layer to save the model")
        nodes.append({**entry, "arguments": [_encode(a, numbers) for a in node.made.args],
                      "options": {k: _encode(v, numbers) for k, v in node.made.kwargs.items()}})
    return {"layers": [serialize(layer) for layer in graph.layers], "nodes": nodes,
            "inputs": _encode(graph.inputs, numbers), "outputs": _encode(graph.outputs, numbers)}


def graph_from_config(config):
    """(inputs, outputs): Symbols of new layers, from what graph_config returned."""
    _wants(set(config) == {"layers", "nodes", "inputs", "outputs"}, "its keys are not layers, nodes, inputs, outputs")
    layers = {}
    for one in config["layers"]:
        layer = deserialize(one)
        _wants(layer.name not in layers, f"two layers have the name {layer.name!r}")
        layers[layer.name] = layer
    results = []
    for node in config["nodes"]:
        _wants(isinstance(node, dict) and ("layer" in node) != ("op" in node), "a node is neither a layer nor an op")
        args = [_decode(a, results) for a in node.get("arguments", [])]
        options = {k: _decode(v, results) for k, v in node.get("options", {}).items()}
        if "op" in node:
            _wants(node["op"] in ops_by_name, f"there is no op {node['op']!r}")
            _wants(any(isinstance(s, Symbol) for s in flatten(args)), f"op {node['op']} computes from no Symbol")
            results.append(flatten(ops_by_name[node["op"]].apply(*args, **options)))
            continue
        _wants(node["layer"] in layers, f"a node calls {node['layer']!r}, which is not among the layers")
        layer = layers[node["layer"]]
        results.append([layer.output] if isinstance(layer, InputLayer) else flatten(layer(*args, **options)))
    return _decode(config["inputs"], results), _decode(config["outputs"], results)


def _wants(condition, what):
    if not condition:
        raise ValueError(f"the description of the model is broken: {what}")


def _encode(value, numbers):
    if isinstance(value, Symbol):
        return {"symbol": numbers[_key(value)]}
    if isinstance(value, dict):
        return {"dict": {k: _encode(v, numbers) for k, v in value.items()}}
    if isinstance(value, list):
        return [_encode(v, numbers) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, numbers) for v in value]}
    if isinstance(value, slice):
        return {"slice": [_encode(v, numbers) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ValueError("the graph uses a weight that belongs to no layer; put it into a layer to save the model")
        value = value.array
    if isinstance(value, np.ndarray):
        if value.size > 10_000:
            raise ValueError(f"the graph holds a constant of {value.size} numbers; put it into a layer's weight to save the model")
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value - value != 0:
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Layer):
        raise ValueError(f"layer {value.name} is an argument of another layer's call, which cannot be described")
    raise ValueError(f"an argument in the graph is {type(value).__name__}, which cannot be described")


def _decode(value, results):
    if isinstance(value, list):
        return [_decode(v, results) for v in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value), None)
    _wants(mark in MARKS and len(value) == (2 if mark == "array" else 1), f"{str(value)[:100]} stands for nothing")
    inner = value[mark]
    if mark == "symbol":
        _wants(isinstance(inner, list) and len(inner) == 2 and all(isinstance(n, int) for n in inner) and 0 <= inner[0] < len(results)
               and 0 <= inner[1] < len(results[inner[0]]), f"there is no result {inner} before its use")
        return results[inner[0]][inner[1]]
    if mark == "tuple":
        return tuple(_decode(v, results) for v in inner)
    if mark == "dict":
        return {k: _decode(v, results) for k, v in inner.items()}
    if mark == "slice":
        return slice(*[_decode(v, results) for v in inner])
    if mark == "array":
        return np.array(inner, value["dtype"])
    return Ellipsis if mark == "ellipsis" else float(inner)
