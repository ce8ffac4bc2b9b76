"""Sequential: one layer after another."""

from ..errors import SymbolicError
from ..layers.core import InputLayer
from ..layers.layer import Layer, tracing
from ..layers.serialization import deserialize, serialize
from ..op import Symbol
from ..structure import flatten, is_shape
from ..tensor import Parameter
from .functional import Graph, fit_input
from .model import Model


class Sequential(Model):
    """A model in which each layer computes from the output of the one before.

    layers   a list of layers; Input(shape), or input_shape=(…) of the first layer, says what the model takes. Without either,
             the weights are made at the first call, or by build(input_shape).
    """

    def __init__(self, layers=None, trainable=True, name=None, **kwargs):
        super().__init__(trainable=trainable, name=name, **kwargs)
        self._chain, self._input_layer, self._shape_is_given = [], None, False
        for layer in layers or []:
            self.add(layer)

    def add(self, layer):
        """Append a layer."""
        if isinstance(layer, Symbol) and layer.made_by is not None and isinstance(layer.made_by.operation, InputLayer):
            layer = layer.made_by.operation
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.name}.add: wants a layer, not {type(layer).__name__}")
        if isinstance(layer, InputLayer):
            if self._chain or self._input_layer:
                raise ValueError(f"{self.name}.add: an Input must be the first")
            self._start(layer)
            return
        if layer.name in [other.name for other in self._chain]:
            raise ValueError(f"{self.name}.add: there is a layer {layer.name!r} already; names within a model must differ")
        if not self._chain and not self._input_layer:
            if isinstance(layer, Model) and layer.graph is not None and len(layer.graph.input_symbols) == 1:
                shape, dtype = layer.graph.input_symbols[0].shape, layer.graph.input_symbols[0].dtype
                self._start(InputLayer(batch_shape=shape, dtype=dtype))
            elif layer._batch_input_shape is not None:
                self._start(InputLayer(batch_shape=layer._batch_input_shape, dtype=layer.input_dtype))
        self._chain.append(layer)
        Parameter.moves += 1                           # what was recorded before is void
        if self._input_layer:
            self._connect()
        else:
            self.built = False

    def pop(self, rebuild=True):
        """Take the last layer off and return it."""
        if not self._chain:
            raise ValueError(f"{self.name}.pop: there are no layers")
        layer = self._chain.pop()
        Parameter.moves += 1
        if self.graph is not None:
            layer._made.remove(self.graph.output_symbols[0].made_by)
            self.graph, self.built = None, False
            if self._shape_is_given:
                self._connect()
            else:
                self._input_layer = None
        return layer

    def _start(self, input_layer, given=True):
        self._input_layer, self._shape_is_given = input_layer, given

    def _connect(self):
        """Run the Symbol of the input through the layers that are not connected yet, and make the graph."""
        self._locate()
        first = self._input_layer.output
        last, begin = (self.graph.outputs, self._connected) if self.graph is not None else (first, 0)
        with tracing(self, nodes=True):
            for layer in self._chain[begin:]:
                last = layer(last)
                if len(flatten(last)) != 1:
                    raise ValueError(f"{self.name}: layer {layer.name!r} gives {len(flatten(last))} tensors; in a Sequential each gives one")
        if self._chain:
            self.graph, self._connected, self.built = Graph(first, last), len(self._chain), True

    @property
    def layers(self):
        """The layers, without the Input."""
        return list(self._chain)

    def _children(self):
        for layer in self._chain:
            yield layer.name, layer
        own = set(map(id, self._chain))
        yield from ((name, layer) for name, layer in super()._children() if id(layer) not in own and layer is not self._input_layer)

    def build(self, input_shape=None, dtype=None):
        """Make the weights for inputs (batch, …)."""
        if self._input_layer is not None or not self._chain:
            return
        if not is_shape(input_shape):
            raise ValueError(f"{self.name}.build: wants one shape (batch, …), not {input_shape!r}")
        self._start(InputLayer(batch_shape=(None, *input_shape[1:]), dtype=dtype or self._chain[0].input_dtype), given=False)
        try:
            self._connect()
        except Exception:
            self._input_layer = None
            raise

    def _build(self, args, kwargs):
        inputs = args[0]
        if self._input_layer is not None or not isinstance(getattr(inputs, "shape", None), tuple) or not self._chain:
            return
        try:
            self.build(inputs.shape, inputs.dtype if inputs.dtype in ("int32", "int64") else None)
        except SymbolicError:
            self._locate()           # a layer looks at values; the model is built by its first run instead, and has no graph

    def built_on(self):
        """The shape and dtype that build_from wants; None where the configuration tells how the model is built."""
        if type(self) is Sequential or self._shape_is_given or self._input_layer is None:
            return None
        return {"shape": self._input_layer.batch_shape, "dtype": self._input_layer.dtype}

    def call(self, inputs, training=None, mask=None):
        """The layers, one after another."""
        if isinstance(inputs, (dict, list, tuple)):
            if len(flatten(inputs)) != 1:
                raise ValueError(f"{self.name}: {len(flatten(inputs))} inputs were given; a Sequential has one")
            inputs, = flatten(inputs)
        if self._input_layer is not None:
            inputs = fit_input(inputs, self._input_layer.output, self._input_layer.name, self.name)
        if mask is not None:
            inputs.mask = mask
        if self.graph is not None:
            return self.graph.run([inputs])
        for layer in self._chain:
            inputs = layer(inputs)
        return inputs

    def get_config(self):
        """Name, layers and the shape of the input, as plain values."""
        if type(self) is not Sequential:
            return super().get_config()
        layers = [self._input_layer] if self._shape_is_given else []
        config = {"name": self.name, "trainable": self._trainable, "layers": [serialize(layer) for layer in layers + self._chain]}
        if self._input_layer and not self._shape_is_given:
            config["build_input_shape"], config["build_input_dtype"] = self._input_layer.batch_shape, self._input_layer.dtype
        return config

    @classmethod
    def from_config(cls, config):
        """A new Sequential from what get_config returned."""
        if "layers" not in config:
            return super().from_config(config)
        config = dict(config)
        shape, dtype = config.pop("build_input_shape", None), config.pop("build_input_dtype", None)
        config["layers"] = [deserialize(layer) for layer in config.pop("layers", [])]
        model = cls(**config)
        if shape is not None:
            model.build(tuple(shape), dtype)
        return model
