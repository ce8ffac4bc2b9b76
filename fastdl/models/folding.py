"""Folding: neighbouring layers of a graph as one call.

Where no gradients are asked for, a convolution or Dense takes the BatchNormalization behind it into its weights (which a recorded
prediction then computes once for each change of the weights), a sum with a residual and an activation into its end, and
ZeroPadding2D before it into its padding. Results differ from those of the single layers by rounding only. In training, a
convolution takes in the padding, BatchNormalization the sum and the activation; results are the same.
"""

from .. import activations, layers, ops
from ..op import labelled, products
from ..ops.activation import Relu, Relu6
from ..ops.elementwise import Add

ACTIVATION_OPS = {Relu: "relu", Relu6: "relu6"}


def plain(node, kind):
    """Whether a node is a layer of exactly this class that does nothing beside its call on one tensor."""
    layer = node.operation
    return type(layer) is kind and layer.activity_regularizer is None and "call" not in layer.__dict__ and not node.kwargs and len(node.args) == 1


def activation_of(node):
    """The name of the activation that a node is, if a convolution can end with it; else None."""
    if not node.is_layer:
        return ACTIVATION_OPS.get(node.operation) if node.source is not None else None
    layer = node.operation
    if plain(node, layers.ReLU):
        return None if layer.negative_slope or layer.threshold else {None: "relu", 6: "relu6"}.get(layer.max_value)
    if plain(node, layers.Activation):
        return next((n for n in ("relu", "relu6", "tanh") if layer.activation is getattr(activations, n)), None)    # sigmoid keeps its logits
    return None


def summands(node):
    """The slots of the two tensors that a node adds; None where it does anything else."""
    if not (plain(node, layers.Add) or node.operation is Add and not node.kwargs and len(node.args) == len(node.slots) == 2):
        return None
    a, b = node.slots if len(node.slots) == 2 else (None, None)
    return None if a == b or node.shape_of.get(a) != node.shape_of.get(b) else [a, b]


def adds(layer):
    """Whether a layer is a matrix product, which can add a residual before it stores its result."""
    return type(layer) is layers.Dense or \
        type(layer) is layers.Conv2D and (layer.groups, layer.kernel_size, layer.strides) == (1, (1, 1), (1, 1))


class Chain:
    """Nodes that run as one call: optional padding, the layer with the weights, normalization, residual, activation.

    inside     ids of the nodes that other Chains have taken
    training   whether in training; BatchNormalization, which needs the statistics of its inputs, then begins a Chain of its own
    """

    def __init__(self, graph, first, inside, training=False):
        self.nodes, self.layer, self.source = [first], first.operation, first.source
        self.padding = self.normalization = self.residual = self.activation = None
        user = lambda node: (lambda found: found if id(found) not in inside else None)(graph.only_user(node))
        if isinstance(self.layer, (layers.Conv2D, layers.DepthwiseConv2D)) and self.layer.padding == "valid":
            before = graph.maker.get(self.source)
            if before and plain(before, layers.ZeroPadding2D) and graph.only_user(before) is first \
                    and before.operation.data_format == "channels_last":
                self.nodes.insert(0, before)
                self.source, self.padding = before.source, before.operation.padding
        if type(self.layer) is layers.BatchNormalization:
            self.follow(user, first)
        if training or self.layer.activation is not activations.linear:
            return
        after = user(first)
        if after and plain(after, layers.BatchNormalization) and after.operation.axis in (-1, len(first.shapes[0]) - 1):
            self.nodes.append(after)
            self.normalization = after.operation
        self.follow(user, self.nodes[-1])

    def follow(self, user, last):
        """Take in the sum and the activation that come after."""
        after = user(last)
        added = after and summands(after)
        if added:
            self.nodes.append(after)
            added.remove(last.slot)
            self.residual, last = added[0], after
            after = user(last)
        if after and activation_of(after):
            self.nodes.append(after)
            self.activation = activation_of(after)

    slots = property(lambda self: [s for s in (self.source, self.residual) if s is not None])
    slot = property(lambda self: self.nodes[-1].slot)
    label = property(lambda self: "+".join(node.operation.path or node.name if node.is_layer else node.name for node in self.nodes))

    def takes(self, given):
        """Whether the layers compute as one from these tensors."""
        of_layers = [node.operation for node in self.nodes if node.is_layer]
        return all(t.mask is None and t.array.dtype is layer._dtype for t in given for layer in of_layers)

    def weights(self):
        """(kernel, bias) of the layer, with the normalisation behind it."""
        return normalised(self.layer, self.normalization) if self.normalization else (self.layer.kernel, self.layer.bias)

    def run(self, tensors):
        """Compute the last node's result."""
        given = [tensors[slot] for slot in self.slots]
        if not self.takes(given) or type(self.layer) is layers.BatchNormalization and any(t.shape != given[0].shape for t in given):
            for node in self.nodes:
                node.run(tensors)
            return
        with labelled(self.label), products(self.layer._bfloat16):
            tensors[self.slot] = self.compute(*given)

    def compute(self, x, residual=None):
        """activation(layer(x), normalised, + residual)."""
        if type(self.layer) is layers.BatchNormalization:
            return self.layer.normalise(x, True, residual=residual, activation=self.activation)
        layer, (kernel, bias) = self.layer, self.weights()
        activation = self.activation or layer._fused
        end = activation if residual is None else None
        if residual is not None and adds(layer) and not self.padding and residual.shape == (*x.shape[:-1], kernel.shape[-1]):
            return ops.linear(x, ops.reshape(kernel, kernel.shape[-2:]), bias, activation=activation, residual=residual)
        if type(layer) is layers.Dense:
            y = ops.linear(x, kernel, bias, activation=end)
        else:
            options = dict(strides=layer.strides, padding=self.padding or layer.padding, dilation=layer.dilation_rate, activation=end)
            y = ops.conv2d(x, kernel, bias, groups=layer.groups, **options) if type(layer) is layers.Conv2D else \
                ops.depthwise_conv2d(x, kernel, bias, **options)
        if residual is None:
            return y if layer._fused is not None else layer.activation(y)
        if residual.shape != y.shape:                    # sizes that the graph does not know: one is broadcast
            return getattr(activations, activation or "linear")(y + residual)
        return ops.activated_sum(y, residual, activation)


def normalised(layer, norm):
    """(kernel, bias) of a layer with the normalisation behind it: scale = gamma / sqrt(variance + epsilon) by channel."""
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * norm.gamma
    shift = norm.moving_mean * scale if layer.bias is None else (norm.moving_mean - layer.bias) * scale
    kernel = layer.kernel * (ops.reshape(scale, layer.kernel.shape[-2:]) if type(layer) is layers.DepthwiseConv2D else scale)
    return kernel, -shift if norm.beta is None else norm.beta - shift


class Pool:
    """ZeroPadding2D and a maximum over windows, of numbers of which none is below zero: to these zeros outside are as nothing."""

    def __init__(self, padding, pool):
        self.nodes, self.slots, self.slot = [padding, pool], [padding.source], pool.slot

    def run(self, tensors):
        """Compute the last node's result."""
        padding, pool = (node.operation for node in self.nodes)
        with labelled(f"{padding.path}+{pool.path}"):
            tensors[self.slot] = ops.max_pool2d(tensors[self.slots[0]], pool_size=pool.pool_size, strides=pool.strides,
                                                     padding=padding.padding)


def pool_of(graph, pool):
    """The Pool that ends with a node, or None."""
    padding = graph.maker.get(pool.source)
    if not (pool.operation.padding == "valid" and padding and plain(padding, layers.ZeroPadding2D) and graph.only_user(padding) is pool):
        return None
    before = graph.maker.get(padding.source)
    inside = all(max(sides) < size for sides, size in zip(padding.operation.padding, pool.operation.pool_size))
    known = before and (activation_of(before) or getattr(before.operation, "_fused", None)) in ("relu", "relu6")
    formats = {padding.operation.data_format, pool.operation.data_format}
    return Pool(padding, pool) if inside and known and formats == {"channels_last"} else None


def may_fold(graph):
    """Whether there are neighbours that could be folded, as far as classes tell, which do not change."""
    firsts = {layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, layers.BatchNormalization, layers.MaxPooling2D}
    afters = {layers.BatchNormalization, layers.Add, layers.ReLU, layers.Activation}
    for node in graph.nodes:
        if node.is_layer and type(node.operation) in firsts:
            after, before = graph.only_user(node), graph.maker.get(node.source)
            if after and (type(after.operation) in afters or after.operation in (Add, Relu, Relu6)):
                return True
            if before and type(before.operation) is layers.ZeroPadding2D:
                return True
    return False


def folded(graph, training):
    """The steps of a graph in order: Chains and Pools in the place of their last nodes, and the other nodes."""
    last, inside = {}, set()
    # Of two branches that are added, one that adds at no cost takes in the sum, else the later one.
    for node in sorted(reversed(graph.nodes), key=lambda node: not (node.is_layer and adds(node.operation))):
        if id(node) in inside or not node.is_layer:
            continue
        found = None
        kinds = layers.Conv2D, layers.DepthwiseConv2D, layers.BatchNormalization if training and node.operation.trainable else layers.Dense
        if any(plain(node, kind) for kind in kinds) and getattr(node.operation, "data_format", "channels_last") == "channels_last":
            found = Chain(graph, node, inside, training)
        elif plain(node, layers.MaxPooling2D):
            found = pool_of(graph, node)
        if found and len(found.nodes) > 1:
            last[id(found.nodes[-1])] = found
            inside.update(map(id, found.nodes))
    return [last.get(id(node), node) for node in graph.nodes if id(node) in last or id(node) not in inside]
