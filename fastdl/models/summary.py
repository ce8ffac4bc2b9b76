"""The table that model.summary() prints."""

import re

from ..layers.layer import Layer
from ..structure import flatten
from .functional import Slot


def summary(model, line_length=None, positions=None, expand_nested=False, show_trainable=False, layer_range=None):
    """The table as text."""
    connected = model.graph is not None and not _is_chain(model)
    rows = [("Layer (type)", "Output Shape", "Param #", *(["Connected to"] if connected else []), *(["Trainable"] if show_trainable else []))]
    for depth, node, layer, graph in _entries(model, expand_nested, layer_range):
        row = ["  " * depth + _title(node, layer), _shape(node, layer), _count(layer)]
        if connected:
            row.append(", ".join(_sources(node, graph)) or "-")
        if show_trainable:
            row.append("-" if not isinstance(layer, Layer) or not layer.weights else "Y" if layer.trainable else "N")
        rows.append(row)
    widths = _widths(rows, line_length or 80, positions)
    edge = "─".join("─" * w for w in widths)
    lines = [f'Model: "{model.name}"', edge]
    for i, row in enumerate(rows):
        lines += _wrapped(row, widths)
        if i == 0:
            lines.append("═" * len(edge))
    return "\n".join([*lines, edge, *_totals(model)])


def _is_chain(model):
    nodes = model.graph.nodes
    return all(node.is_layer for node in nodes) and all(a.results and b.source == a.results[0][1] for a, b in zip(nodes, nodes[1:])) \
        and len(model.graph.input_symbols) == 1


def _entries(model, expand, layer_range, depth=0):
    """(depth, node or None, layer or op, graph) of each row."""
    graph = model.graph
    if graph is None:
        found = [(None, layer) for layer in model.layers]
    else:
        rank = {id(layer): i for i, layer in enumerate(graph.layers)}
        inputs = [] if hasattr(model, "_chain") else [(None, layer) for layer in graph.layers if type(layer).__name__ == "InputLayer"]
        seen, found = set(), inputs
        for node in graph.nodes:
            if id(node.operation) not in seen or not node.is_layer:
                seen.add(id(node.operation))
                found.append((node, node.operation))
        if all(id(layer) in rank for _, layer in found):
            found.sort(key=lambda entry: rank[id(entry[1])])
    if layer_range is not None:
        names = [getattr(layer, "name", "") for _, layer in found]
        first = next((i for i, n in enumerate(names) if re.fullmatch(layer_range[0], n)), None)
        last = next((i for i, n in reversed(list(enumerate(names))) if re.fullmatch(layer_range[1], n)), None)
        if first is None or last is None:
            raise ValueError(f"summary: layer_range is {layer_range}; the layers are {', '.join(names)}")
        found = found[first:last + 1]
    for node, layer in found:
        yield depth, node, layer, graph
        if expand and hasattr(layer, "graph"):
            yield from _entries(layer, expand, None, depth + 1)


def _title(node, layer):
    name = node.name if node is not None else layer.name
    return f"{name} ({type(layer).__name__ if isinstance(layer, Layer) else layer.__name__})"


def _shape(node, layer):
    if node is not None and not node.is_layer:
        shapes = node.shapes.values()
    elif layer._made:
        shapes = [symbol.shape for symbol in flatten((node.made if node is not None else layer._made[0]).outputs)]
    else:
        return "?"
    return ", ".join(map(str, shapes))


def _count(layer):
    if not isinstance(layer, Layer):
        return "0"
    count = sum(w.size for w in layer.weights)
    return f"{count:,}" if layer.built else f"{count:,} (unbuilt)"


def _sources(node, graph):
    """Names of the nodes and inputs that a row's layer computes from, in all its calls."""
    if node is None or graph is None:
        return []
    names = dict(enumerate(graph.input_names))
    for other in graph.nodes:
        names.update((slot, f"{other.name}[{index}]" if len(other.results) > 1 else other.name) for index, slot in other.results)
    calls = [other for other in graph.nodes if other.operation is node.operation] if node.is_layer else [node]
    return [names[value.index] for call in calls for value in flatten([call.args, call.kwargs]) if isinstance(value, Slot)]


def _widths(rows, line_length, positions):
    """Widths of the columns: as wide as their texts where these fit into the line, else in proportion."""
    columns = len(rows[0])
    needed = [max(len(row[i]) for row in rows) + 2 for i in range(columns)]
    if positions:
        edges = [int(p * line_length) if p <= 1 else int(p) for p in positions][:columns]
        return [b - a for a, b in zip([0, *edges], edges)]
    room = line_length - (columns - 1)
    while sum(needed) > room and max(needed) > 8:
        needed[needed.index(max(needed))] -= 1
    spare = max(room - sum(needed), 0)
    return [w + spare // columns + (i < spare % columns) for i, w in enumerate(needed)]


def _wrapped(row, widths):
    """The lines of a row; texts that are too long go on in the next line."""
    cells = []
    for text, width in zip(row, widths):
        lines, indent = [], len(text) - len(text.lstrip())
        for word in text.split():
            if lines and len(lines[-1]) + 1 + len(word) <= width - 1:
                lines[-1] += " " + word
            else:
                while len(word) > width - 1 - indent and width - 1 - indent > 1:
                    lines.append(" " * indent + word[:width - 1 - indent])
                    word = word[width - 1 - indent:]
                lines.append(" " * indent + word)
        cells.append(lines or [""])
    height = max(map(len, cells))
    return [" ".join((cell[i] if i < len(cell) else "").ljust(width) for cell, width in zip(cells, widths)).rstrip() for i in range(height)]


def _totals(model):
    def line(what, weights):
        return f"{what}: {sum(w.size for w in weights):,} ({_bytes(sum(w.array.nbytes for w in weights))})"
    lines = [line("Total params", model.weights), line("Trainable params", model.trainable_weights),
             line("Non-trainable params", model.non_trainable_weights)]
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and getattr(optimizer, "built", False):
        lines.append(line("Optimizer params", optimizer.variables))
    return lines


def _bytes(n):
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1024 or unit == "GB":
            return f"{n:.2f} {unit}" if unit != "B" else f"{n} B"
        n /= 1024
