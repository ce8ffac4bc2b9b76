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
