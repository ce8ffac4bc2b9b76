"""Model: a layer that can be trained, summed up, saved and loaded; by its graph or by a subclass's call."""

import copyreg

from ..layers.context import context
from ..layers.core import Input
from ..layers.layer import Layer, tracing
from ..op import Symbol
from ..structure import flatten, map_shapes, map_structure
from .functional import Graph
from .trainer import Trainer


class Model(Trainer, Layer):
    """A model, in one of two ways:

        Model(inputs, outputs)          what lies between Symbols; lists or dicts of them for several
        class MyModel(Model)            layers made in __init__, used in call(inputs, training=None)
    """

    supports_masking = True
    graph = None                     # of a model made from Symbols, or a Sequential that is built
    _traced_on = None                # of a subclassed model: the shapes and dtypes of its first call

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        unused = next((name for name in _KERAS_STEPS if hasattr(cls, name)), None)
        if unused:
            raise TypeError(f"{cls.__name__} defines {unused}, which fastdl never calls: fit runs its own recorded step"
                            "\n  compose the loss in call (add_loss), or write the loop yourself, with backward() or GradientTape")

    def __init__(self, inputs=None, outputs=None, **kwargs):
        if (inputs is None) != (outputs is None):
            raise TypeError(f"{type(self).__name__}: inputs and outputs are given together, or neither")
        if inputs is not None and type(self) is Model and kwargs.get("name") is None:
            from ..layers.context import auto_name
            kwargs["name"] = auto_name("functional")
        trainable = kwargs.pop("trainable", True)
        super().__init__(**kwargs)
        if inputs is not None:
            self.graph, self.path, self.built = Graph(inputs, outputs), "", True
        if not trainable:
            self.trainable = False

    def call(self, inputs, training=None, mask=None):
        """Run the graph; a subclass defines its own."""
        if self.graph is None:
            raise NotImplementedError(f"{type(self).__name__} does not define call")
        if mask is not None:
            for t, m in zip(flatten(inputs), flatten(mask)):
                t.mask = m
        return self.graph.run(self.graph.arrange(inputs, self.name))

    def compute_mask(self, inputs, previous_mask):
        """None: the layers inside have given the outputs their masks."""
        return None

    # -- building --

    def _locate(self):
        if self.path is None and context.outermost is None:
            self.path = ""                             # the paths of a model's layers do not begin with its own name
        super()._locate()

    def build(self, input_shape=None):
        """Make the weights for inputs of a shape (batch, …), or a list or dict of shapes."""
        if self.graph is None and type(self).call is not Model.call and input_shape is not None:
            with tracing(self):
                self.call(map_shapes(lambda shape: Symbol(shape), input_shape))

    def _build(self, args, kwargs):
        if _defines_build(type(self)):
            return super()._build(args, kwargs)
        self._locate()

    def _run(self, x, mask, args, kwargs):
        out = super()._run(x, mask, args, kwargs)
        return out if self.built else self._first(args[0], out)

    def _trace(self, x, mask, args, kwargs):
        out = super()._trace(x, mask, args, kwargs)
        return out if self.built else self._first(args[0], out)

    def _first(self, inputs, out):
        """After the first call every layer is built; and its shapes are kept, so that a file can say them."""
        self.built = True
        self._traced_on = map_structure(lambda t: {"shape": (None, *t.shape[1:]), "dtype": t.dtype}, inputs)
        return out

    def built_on(self):
        """The shapes and dtypes that build_from wants; None where the configuration tells how the model is built."""
        return self._traced_on

    def build_from(self, traced_on):
        """Make the weights as a first call on inputs of these shapes and dtypes does; a saved model keeps them."""
        def symbols(value):
            if isinstance(value, dict) and set(value) == {"shape", "dtype"}:
                return Symbol(tuple(value["shape"]), value["dtype"])
            return {k: symbols(v) for k, v in value.items()} if isinstance(value, dict) else [symbols(v) for v in value]
        with tracing(self):
            self(symbols(traced_on))

    # -- what is inside --

    def _children(self):
        if self.graph is None:
            yield from super()._children()
            return
        inside = {id(layer) for layer in self.graph.layers}
        yield from ((layer.name, layer) for layer in self.graph.layers)
        yield from ((name, layer) for name, layer in super()._children() if id(layer) not in inside)

    @property
    def layers(self):
        """The layers directly inside."""
        return [layer for _, layer in self._children()]

    def get_layer(self, name=None, index=None):
        """The layer of a name, or at an index of .layers."""
        layers = self.layers
        if (name is None) == (index is None):
            raise ValueError("get_layer: give name or index")
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"get_layer: there is no layer {index}; the model has {len(layers)}")
            return layers[index]
        found = [layer for layer in layers if layer.name == name]
        if not found:
            raise ValueError(f"get_layer: there is no layer {name!r}; there are {', '.join(layer.name for layer in layers) or 'none'}")
        return found[0]

    def _of_graph(self, what):
        if self.graph is None:
            raise AttributeError(f"{self.name}.{what}: the model has no Symbols: "
                                 + ("it is not built yet" if _is_sequential(self) else "it is defined by its call"))
        return getattr(self.graph, what)

    @property
    def inputs(self):
        """The Symbols of the inputs, as a list; None where the model has no graph."""
        return self.graph and self.graph.input_symbols

    @property
    def outputs(self):
        """The Symbols of the outputs, as a list; None where the model has no graph."""
        return self.graph and self.graph.output_symbols

    @property
    def input(self):
        """The Symbols of the inputs, in their structure."""
        return self._of_graph("inputs")

    @property
    def output(self):
        """The Symbols of the outputs, in their structure."""
        return self._of_graph("outputs")

    @property
    def input_shape(self):
        """The shape of the input, or the structure of shapes."""
        return map_structure(lambda s: s.shape, self.input)

    @property
    def output_shape(self):
        """The shape of the output, or the structure of shapes."""
        return map_structure(lambda s: s.shape, self.output)

    @property
    def input_names(self):
        """The names of the inputs; None where the model has no graph."""
        return self.graph and self.graph.input_names

    @property
    def output_names(self):
        """The names of the outputs; None where the model has no graph."""
        return self.graph and self.graph.output_names

    def summary(self, line_length=None, positions=None, print_fn=None, expand_nested=False, show_trainable=False, layer_range=None):
        """Print a table of the layers: name and class, output shape, number of weights, and in a graph where inputs come from.

        line_length    of the table, at most 80 unless given
        positions      right edges of the columns, as fractions of the line
        print_fn       called with the text instead of print
        expand_nested  also the layers of models inside; show_trainable adds a column of Y and N
        layer_range    (first, last): names of the layers where the table begins and ends
        """
        from .summary import summary
        (print_fn or print)(summary(self, line_length, positions, expand_nested, show_trainable, layer_range))

    # -- saving --

    def get_config(self):
        """What makes the model again, as plain values: its graph, or a subclass's arguments."""
        if self.graph is None or type(self) is not Model:
            return {**super().get_config(), **self._given_arguments()}
        from ..saving.graphs import graph_config
        return {"name": self.name, "trainable": self._trainable, **graph_config(self.graph)}

    @classmethod
    def from_config(cls, config):
        """A new model from what get_config returned."""
        if "nodes" not in config:
            return super().from_config(config)
        from ..saving.graphs import graph_from_config
        config = dict(config)
        name, trainable = config.pop("name", None), config.pop("trainable", True)
        inputs, outputs = graph_from_config(config)
        model = cls(inputs, outputs, name=name)
        model._trainable = bool(trainable)
        return model

    def save(self, filepath, overwrite=True):
        """Write architecture, weights, and what compile was given with the optimizer's state, into one file."""
        from ..saving import save_model
        save_model(self, filepath, overwrite=overwrite)

    def __reduce__(self):
        if self.graph is None:                        # a copy of its attributes, as of any layer
            return copyreg.__newobj__, (type(self),), self.__getstate__()
        from ..saving import model_from_bytes, model_to_bytes
        return model_from_bytes, model_to_bytes(self)

    def __reduce_ex__(self, protocol):
        return self.__reduce__()

    def __setstate__(self, state):
        super().__setstate__(state)
        self._recorded = {}

    def save_weights(self, filepath, overwrite=True):
        """Write the weights into a file."""
        from ..saving import save_weights
        save_weights(self, filepath, overwrite=overwrite)

    def load_weights(self, filepath, skip_mismatch=False):
        """Read the weights from a file that save or save_weights wrote, by their paths.

        skip_mismatch   leave weights alone that the file lacks or has in another shape, instead of a ValueError
        """
        from ..saving import load_weights
        load_weights(self, filepath, skip_mismatch=skip_mismatch)

    def to_json(self, **options):
        """The architecture as JSON; options go to json.dumps."""
        from ..saving import model_to_json
        return model_to_json(self, **options)


# What subclasses of Keras' Model may define to change its steps.
_KERAS_STEPS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "make_train_function", "make_test_function",
                "make_predict_function")


def _defines_build(cls):
    return next(c for c in cls.__mro__ if "build" in c.__dict__) is not Model


def _is_sequential(model):
    return hasattr(model, "_chain")


__all__ = ["Input", "Model"]
