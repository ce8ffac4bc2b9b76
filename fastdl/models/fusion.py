"""Fusion: neighbouring layers of a graph as one call with the results of the single layers; blocks of convolutions in predictions only."""

from .. import activations, ops
from ..layers import LSTM, Conv2D, Dense, DepthwiseConv2D, Embedding, GroupedQueryAttention, MaxPooling2D, MultiHeadAttention
from ..op import FLOAT32, labelled, products
from ..ops.convolution import LEAST_DEPTH
from ..ops.embedded_lstm import EmbeddedLSTM
from ..ops.few_columns import wanted
from ..ops.inverted_residual import InvertedResidual
from ..ops.pooled_convolution import PooledConv2D
from ..tensor import Tensor
from .folding import Chain, adds, plain, summands


class PooledConvolution:
    """Conv2D and the 2x2 MaxPooling2D that alone uses what it gives."""

    def __init__(self, convolution, pooling):
        self.nodes, self.slots, self.slot = (convolution, pooling), [convolution.source], pooling.slot

    def run(self, tensors):
        """Compute the pooling's result."""
        x, (layer, pool) = tensors[self.slots[0]], (node.operation for node in self.nodes)
        if type(x) is not Tensor or x.mask is not None or x.array.dtype is not layer._dtype or x.array.dtype is not pool._dtype:
            for node in self.nodes:
                node.run(tensors)
            return
        with labelled(f"{layer.path}+{pool.path}"):
            tensors[self.slot] = ops.pooled_conv2d(x, layer.kernel, layer.bias, strides=layer.strides, padding=layer.padding,
                                                   activation=layer._fused)


def pooled(graph, node):
    """The PooledConvolution that begins with a node, or None."""
    after = graph.only_user(node)
    if not (after and plain(node, Conv2D) and plain(after, MaxPooling2D)):
        return None
    layer, pool = node.operation, after.operation
    fits = pool.pool_size == pool.strides == (2, 2) and pool.padding == "valid" and layer._fused is not None
    fits = fits and not (layer._bfloat16 and layer.kernel.size // layer.kernel.shape[-1] >= LEAST_DEPTH)
    last = layer.data_format == pool.data_format == "channels_last"
    takes = fits and last and PooledConv2D.takes(layer.kernel.shape, layer.strides, layer.dilation_rate, layer.groups, layer._fused)
    return PooledConvolution(node, after) if takes else None


class EmbeddedRecurrence:
    """Embedding and the LSTM that alone uses what it gives, where tokens are many more than rows of the table."""

    def __init__(self, embedding, recurrence):
        self.nodes, self.slots, self.slot = (embedding, recurrence), [embedding.source], recurrence.slot

    def run(self, tensors):
        """Compute the LSTM's result."""
        tokens, (embedding, layer) = tensors[self.slots[0]], (node.operation for node in self.nodes)
        single = embedding._dtype is layer._dtype is FLOAT32
        takes = type(tokens) is Tensor and tokens.mask is None and single
        if not (takes and EmbeddedLSTM.takes(tokens.shape, embedding.input_dim, layer.units)):
            for node in self.nodes:
                node.run(tensors)
            return
        with labelled(f"{embedding.path}+{layer.path}"), products(layer._bfloat16):
            tensors[self.slot] = ops.embedded_lstm(tokens, embedding.embeddings, layer.kernel, layer.recurrent_kernel, layer.bias,
                                                   return_sequences=layer.return_sequences, go_backwards=layer.go_backwards, **layer.options())[0]


def embedded(graph, node):
    """The EmbeddedRecurrence that begins with a node, or None."""
    after = graph.only_user(node)
    if not (after and plain(node, Embedding) and plain(after, LSTM)) or node.operation.mask_zero:
        return None
    layer = after.operation
    plainly = layer.fused and not (layer.dropout or layer.recurrent_dropout or layer.stateful or layer.return_state)
    return EmbeddedRecurrence(node, after) if plainly else None


class Residual:
    """Dense or attention of heads, and the sum with what was there before that alone uses what it gives."""

    def __init__(self, node, added, residual):
        self.nodes, self.slots, self.residual, self.slot = (node, added), [*node.slots, residual], residual, added.slot

    def run(self, tensors):
        """Compute the sum."""
        node, given = self.nodes[0], [tensors[slot] for slot in self.slots]
        layer, x, residual = node.operation, given[0], given[-1]
        fits = all(type(t) is Tensor and t.mask is None and t.array.dtype is layer._dtype for t in given)
        if fits and residual.shape[:-1] == x.shape[:-1]:
            node.run(tensors, residual=residual)
            tensors[self.slot] = tensors[node.slot]
        else:
            for node in self.nodes:
                node.run(tensors)


def with_residual(graph, node):
    """The Residual that begins with a node, or None."""
    layer, added = node.operation, graph.only_user(node)
    if type(layer) is Dense:
        ends = plain(node, Dense) and layer.activation is activations.linear and not wanted(*layer.kernel.shape)
    else:
        ends = type(layer) in (MultiHeadAttention, GroupedQueryAttention) and layer.activity_regularizer is None and "call" not in layer.__dict__
    found = added and ends and summands(added)
    if not found:
        return None
    found.remove(node.slot)
    before = graph.maker.get(found[0])
    return Residual(node, added, found[0]) if before is None or graph.nodes.index(before) < graph.nodes.index(node) else None


class Block:
    """Chains that run as one: an optional 1x1 convolution to many channels, a depthwise one, a 1x1 convolution to few."""

    def __init__(self, chains):
        self.chains, self.slot = chains, chains[-1].slot
        self.slots = [chains[0].source, *[s for s in (chains[-1].residual,) if s is not None]]

    def run(self, tensors):
        """Compute what the last of them gives."""
        given, middle = [tensors[slot] for slot in self.slots], self.chains[-2]
        layer, first = middle.layer, self.chains[0].layer if len(self.chains) == 3 else None
        padding, activations = middle.padding or layer.padding, [chain.activation or chain.layer._fused for chain in self.chains]
        fits = type(given[0]) is Tensor and given[0].array.dtype is FLOAT32
        fits = fits and all(c.takes(given) and c.layer._bfloat16 == layer._bfloat16 for c in self.chains)
        if not fits or not InvertedResidual.pays(given[0].shape, first and first.kernel.shape, layer.kernel.shape, self.chains[-1].layer.kernel.shape,
                                                 layer.strides, padding, activations[-1], layer._bfloat16, *[residual.shape for residual in given[1:]]):
            for chain in self.chains:
                chain.run(tensors)
            return
        with labelled("+".join(chain.label for chain in self.chains)), products(layer._bfloat16):
            expand, expand_bias = self.chains[0].weights() if first else (None, None)
            tensors[self.slot] = InvertedResidual.apply(
                given[0], expand, expand_bias, *middle.weights(), *self.chains[-1].weights(), *given[1:], strides=layer.strides, padding=padding,
                activations=(None, *activations)[-3:])


def blocks(graph, steps):
    """The steps of a prediction with Blocks in the place of their last Chains."""
    chains = {id(step.nodes[-1]): step for step in steps if type(step) is Chain}
    before = lambda chain: chains.get(id(graph.maker.get(chain.source)))
    last, inside = {}, set()
    pixelwise = lambda chain: type(chain.layer) is Conv2D and adds(chain.layer) and not chain.padding
    inner = lambda chain: chain and chain.residual is None and graph.only_user(chain.nodes[-1])
    for chain in chains.values():
        middle = before(chain) if pixelwise(chain) else None
        if not inner(middle) or type(middle.layer) is not DepthwiseConv2D or middle.layer.dilation_rate != (1, 1):
            continue
        first = before(middle)
        found = [first, middle, chain] if inner(first) and pixelwise(first) else [middle, chain]
        if all((c.activation or c.layer._fused) is not None for c in found):
            last[id(chain)] = Block(found)
            inside.update(map(id, found))
    return [last.get(id(step), step) for step in steps if id(step) in last or id(step) not in inside]


def fused(graph, steps):
    """The steps of a graph with those that run as one in the place of the first."""
    found, inside = [], set()
    for step in steps:
        if id(step) not in inside:
            joined = pooled(graph, step) or embedded(graph, step) or with_residual(graph, step) if hasattr(step, "operation") else None
            inside.update(map(id, joined.nodes if joined else ()))
            found.append(joined or step)
    return found
