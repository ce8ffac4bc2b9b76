"""Graph: the layers and ops between Symbols that stand for inputs and those that stand for outputs."""

from ..errors import shape_error
from ..layers.context import context
from ..layers.core import InputLayer
from ..layers.layer import Layer
from ..op import Symbol
from ..structure import flatten, map_structure, pack
from ..tensor import grad_enabled
from .folding import folded, may_fold
from .fusion import blocks, fused


class Node:
    """One call of a layer or op: its arguments, with Slots for Symbols, and where its results go."""

    def __init__(self, made, name):
        self.made, self.operation, self.name = made, made.operation, name
        self.is_layer = isinstance(made.operation, Layer)
        self.call = made.operation if self.is_layer else made.operation.apply
        self.results = []                       # (index among the outputs, slot)
        self.shapes = {}                        # of these outputs, by index

    def prepare(self, slot_of):
        """Replace the Symbols of the arguments by Slots."""
        self.slots, self.shape_of = [], {}      # of the arguments: all slots; and their shapes, by slot

        def swap(value):
            if not isinstance(value, Symbol):
                return value
            self.slots.append(slot_of(value))
            self.shape_of[self.slots[-1]] = value.shape
            return Slot(self.slots[-1])
        self.args = tuple(map_structure(swap, a) for a in self.made.args)
        self.kwargs = {name: map_structure(swap, value) for name, value in self.made.kwargs.items()}
        single = len(self.args) == 1 and not self.kwargs and isinstance(self.args[0], Slot)
        self.source = self.args[0].index if single else None

    slot = property(lambda self: self.results[0][1])

    def run(self, tensors, **more):
        """Call, from the tensors in the slots of the arguments, into those of the results; with more arguments by name."""
        if self.source is not None:
            found = self.call(tensors[self.source], **more)
        else:
            take = lambda value: tensors[value.index] if isinstance(value, Slot) else value
            found = self.call(*[map_structure(take, a) for a in self.args], **{k: map_structure(take, v) for k, v in self.kwargs.items()}, **more)
        if type(found) in (list, tuple, dict):
            found = flatten(found)
            for index, slot in self.results:
                tensors[slot] = found[index]
        else:
            tensors[self.slot] = found


class Slot:
    """The place of a tensor during a run."""

    def __init__(self, index):
        self.index = index


class Graph:
    """What computes the outputs from the inputs.

    inputs, outputs   Symbols, or lists or dicts of them
    nodes             the calls, in the order in which they run
    layers            the layers, from inputs to outputs

    A ValueError names the Input that is missing where the outputs depend on one that is not among the inputs.
    """

    def __init__(self, inputs, outputs):
        for what, structure in ("inputs", inputs), ("outputs", outputs):
            found = flatten(structure)
            wrong = next((type(s).__name__ for s in found if not isinstance(s, Symbol)), None if found else "nothing")
            if wrong:
                raise TypeError(f"Model: {what} hold {wrong}; they must be Symbols, as Input() and layers called on Symbols return them")
        self.inputs, self.outputs = inputs, outputs
        self.input_symbols, self.output_symbols = flatten(inputs), flatten(outputs)
        self.slots = {_key(s): i for i, s in enumerate(self.input_symbols)}
        if len(self.slots) < len(self.input_symbols):
            raise ValueError("Model: the same Input stands twice among the inputs")
        self.input_names = list(inputs) if isinstance(inputs, dict) else [_name(s) for s in self.input_symbols]
        order, discovered = self._walk()
        self.layers = self._layers_in_order(order, discovered)
        self._check_names()
        self._number(order)
        self.output_names = list(outputs) if isinstance(outputs, dict) else self._output_names()

    # -- making --

    def _walk(self):
        """The Mades from the inputs to the outputs, each after what it needs; and, the inputs' among them, in the order of their
        discovery from the outputs."""
        order, discovered, opened, done = [], {}, set(), set()
        self._refuse_foreign(self.output_symbols, None)
        stack = self._origins(self.output_symbols)
        while stack:
            made, is_input = stack[-1]
            discovered.setdefault(id(made), made)
            if is_input or id(made) in done:
                stack.pop()
            elif id(made) in opened:
                done.add(id(made))
                order.append(made)
                stack.pop()
            else:
                opened.add(id(made))
                needs = _symbols(made)
                self._refuse_foreign(needs, made)
                stack += self._origins(needs)
        return order, list(discovered.values())

    def _origins(self, symbols):
        """(Made, whether it makes an input) of Symbols, the last one first, as a stack wants it."""
        return [(s.made_by, _key(s) in self.slots) for s in reversed(symbols)]

    def _refuse_foreign(self, symbols, made):
        for s in symbols:
            if _key(s) in self.slots:
                continue
            if s.made_by is None or isinstance(s.made_by.operation, InputLayer):
                needed_by = "an output" if made is None else f"{getattr(made.operation, 'name', made.operation)}, which an output needs,"
                raise ValueError(f"Model: {needed_by} depends on Input {_name(s)!r} of shape {s.shape}, which is not among the inputs"
                                 f"\n  inputs   {', '.join(map(repr, self.input_names))}\n  add {_name(s)!r} to the inputs")

    def _layers_in_order(self, order, discovered):
        """By the longest way to an output, the farthest first, as Keras orders weights; equal ones as they were discovered."""
        depth, of_layer = {}, {}
        for made in reversed(order):
            own = depth[id(made)] = max(depth.get(id(made), 0), of_layer.get(id(made.operation), 0))
            of_layer[id(made.operation)] = own
            for s in _symbols(made):
                key = id(s.made_by) if _key(s) not in self.slots else id(getattr(s.made_by, "operation", None))
                found = depth if _key(s) not in self.slots else of_layer
                found[key] = max(found.get(key, 0), own + 1)
        inputs = [s.made_by for s in self.input_symbols if s.made_by and isinstance(s.made_by.operation, InputLayer)]
        cut = {id(s.made_by) for s in self.input_symbols} - set(map(id, inputs)) - set(map(id, order))     # an input inside another model
        unused = [m for m in inputs if not any(m is other for other in discovered)]
        layers = {id(m.operation): m.operation for m in [*unused, *discovered] if m and isinstance(m.operation, Layer) and id(m) not in cut}
        return sorted(layers.values(), key=lambda layer: -of_layer.get(id(layer), 0))

    def _check_names(self):
        names = {}
        for layer in self.layers:
            if names.setdefault(layer.name, layer) is not layer:
                raise ValueError(f"Model: two layers have the name {layer.name!r}; names within a model must differ")

    def _number(self, order):
        """Make the nodes, and give each of their results a slot."""
        taken = {layer.name for layer in self.layers}
        self.nodes, self.node_of = [], {}
        for made in order:
            name = made.operation.name
            if not isinstance(made.operation, Layer):
                name = next(n for n in _numbered(name) if n not in taken)
                taken.add(name)
            node = self.node_of[id(made)] = Node(made, name)
            node.prepare(lambda s: self._slot(s))
            self.nodes.append(node)
        self.output_slots = [self._slot(s) for s in self.output_symbols]
        self.maker = {slot: node for node in self.nodes for _, slot in node.results}
        self.users = {}
        for node in self.nodes:
            for slot in node.slots:
                self.users.setdefault(slot, []).append(node)
        self.plain_steps, self.may_fold = self._with_releases(fused(self, self.nodes)), may_fold(self)

    def _with_releases(self, steps):
        """[(step, the slots that nothing needs after it)]."""
        needed, found = set(self.output_slots), []
        for step in reversed(steps):
            mine = {*step.slots, *[slot for _, slot in getattr(step, "results", ())]}
            found.append((step, [*mine - needed]))
            needed |= mine
        return found[::-1]

    def only_user(self, node):
        """The node that alone needs what a node gives, which is no output; or None."""
        users = self.users.get(node.slot, ()) if len(node.results) == 1 else ()
        return users[0] if len(users) == 1 and node.slot not in self.output_slots else None

    def _slot(self, symbol):
        key = _key(symbol)
        if key not in self.slots:
            self.slots[key] = len(self.slots)
            node = self.node_of[key[0]]
            node.results.append((symbol.index, self.slots[key]))
            node.shapes[symbol.index] = symbol.shape
        return self.slots[key]

    def _output_names(self):
        """The names of the layers that make the outputs, numbered where one makes several."""
        names = []
        for s in self.output_symbols:
            name = self.node_of[id(s.made_by)].name if id(s.made_by) in self.node_of else _name(s)
            names.append(next(n for n in _numbered(name) if n not in names))
        return names

    # -- running --

    def run(self, values):
        """The outputs, in their structure, for the inputs' tensors (or Symbols) in order."""
        tensors = [*values, *[None] * (len(self.slots) - len(values))]
        fold = self.may_fold and not context.tracing and (context.training or not grad_enabled())
        for step, release in self._folded() if fold else self.plain_steps:
            step.run(tensors)
            for slot in release:
                tensors[slot] = None
        return pack(self.outputs, [tensors[slot] for slot in self.output_slots])

    def _folded(self):
        steps = folded(self, bool(context.training))
        return self._with_releases(fused(self, steps if context.training else blocks(self, steps)))

    def arrange(self, given, model):
        """What a model was called on, as a list in the order of its inputs, fitted to their shapes and dtypes."""
        if isinstance(given, dict):
            missing = [name for name in self.input_names if name not in given]
            if missing:
                raise ValueError(f"{model}: the inputs lack {', '.join(map(repr, missing))}; given are {', '.join(map(repr, given))}")
            values = [given[name] for name in self.input_names]
        else:
            values = flatten(given)
        if len(values) != len(self.input_symbols):
            raise ValueError(f"{model}: {len(values)} inputs were given; the model has {len(self.input_symbols)} ({', '.join(self.input_names)})")
        return [fit_input(value, symbol, name, model) for value, symbol, name in zip(values, self.input_symbols, self.input_names)]


def fit_input(value, symbol, name, model):
    """A tensor in the dtype of an Input and with its number of axes, as far as an axis of size 1 can make good."""
    from .. import ops
    shape, mask = symbol.shape, value.mask
    floats = symbol.dtype in ("float32", "float64")
    if value.dtype != symbol.dtype and (floats or value.dtype in ("float32", "float64")):
        value = ops.cast(value, symbol.dtype)
    if value.ndim == len(shape) - 1 and shape[-1] == 1:
        value = ops.expand_dims(value, -1)
    elif value.ndim == len(shape) + 1 and value.shape[-1] == 1:
        value = ops.squeeze(value, axis=-1)
    if value.ndim != len(shape) or any(n != m and n is not None and m is not None for n, m in zip(value.shape, shape)):
        raise shape_error(model, f"the shape of input {name!r} does not fit", given=value.shape, wanted=shape)
    if mask is not None:
        value.mask = mask
    return value


def _key(symbol):
    return (id(symbol.made_by), symbol.index) if symbol.made_by is not None else (id(symbol), 0)


def _name(symbol):
    return symbol.name or getattr(getattr(symbol.made_by, "operation", None), "name", None) or "unnamed"


def _symbols(made):
    return [s for s in flatten([made.args, made.kwargs]) if isinstance(s, Symbol)]


def _numbered(name):
    yield name
    i = 1
    while True:
        yield f"{name}_{i}"
        i += 1
