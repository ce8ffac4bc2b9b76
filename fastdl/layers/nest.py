"""Structures of tensors: lists, tuples and dicts, one inside another."""


def flatten(structure):
    """The leaves in order; dicts by their order of insertion."""
    if isinstance(structure, dict):
        return [leaf for value in structure.values() for leaf in flatten(value)]
    if isinstance(structure, (list, tuple)):
        return [leaf for value in structure for leaf in flatten(value)]
    return [structure]


def map(function, structure):
    """The same structure with every leaf replaced by function(leaf)."""
    if isinstance(structure, dict):
        return {key: map(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [map(function, value) for value in structure]
        return type(structure)(*items) if hasattr(structure, "_fields") else type(structure)(items)
    return function(structure)


def pack(structure, leaves):
    """The same structure with its leaves taken, in order, from a list."""
    leaves = iter(leaves)
    return map(lambda _: next(leaves), structure)


def is_shape(value):
    """Whether the value is one shape, not a structure of shapes."""
    return isinstance(value, (list, tuple)) and all(n is None or hasattr(n, "__index__") for n in value)


def map_shapes(function, structure):
    """The same structure with every shape (a tuple or list of sizes) replaced by function(shape)."""
    if is_shape(structure):
        return function(tuple(structure))
    if isinstance(structure, dict):
        return {key: map_shapes(function, value) for key, value in structure.items()}
    return [map_shapes(function, value) for value in structure]
