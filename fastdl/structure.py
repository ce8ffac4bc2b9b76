"""Nested lists, tuples and dicts of arrays: one batch may be an array, several, or several by name."""


def leaves(value):
    """The arrays inside, in order (dicts: by their keys' order)."""
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in leaves(v)]
    return [] if value is None else [value]


def rebuild(value, new_leaves):
    """The same structure around other leaves, taken from an iterator."""
    if isinstance(value, dict):
        return {k: rebuild(v, new_leaves) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(rebuild(v, new_leaves) for v in value)
    return None if value is None else next(new_leaves)


def flatten(value):
    """Everything inside that is not a list, tuple or dict, in order; None counts."""
    if isinstance(value, dict):
        return [item for v in value.values() for item in flatten(v)]
    if isinstance(value, (list, tuple)):
        return [item for v in value for item in flatten(v)]
    return [value]


def map_structure(function, value):
    """The same structure with function applied to everything that flatten finds."""
    if isinstance(value, dict):
        return {k: map_structure(function, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [map_structure(function, v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value)


def pack(value, items):
    """The same structure around other items, taken in order from a list."""
    items = iter(items)
    return map_structure(lambda _: next(items), value)


def is_shape(value):
    """Whether the value is one shape, not a structure of shapes."""
    return isinstance(value, (list, tuple)) and all(n is None or hasattr(n, "__index__") for n in value)


def map_shapes(function, value):
    """The same structure with function applied to every shape."""
    if is_shape(value):
        return function(tuple(value))
    if isinstance(value, dict):
        return {k: map_shapes(function, v) for k, v in value.items()}
    return [map_shapes(function, v) for v in value]
