"""Architectures as JSON, and back, with limits on what a file may say."""

import inspect
import json

from ..layers.serialization import custom_object_scope, deserialize, serialize
from ..structure import flatten

MOST_CHARACTERS, MOST_DEPTH, MOST_VALUES = 1 << 24, 64, 100_000


def write_json(value, what, **options):
    """Plain values as JSON; a ValueError naming what cannot be written."""
    def plain(v):
        if hasattr(v, "item") and getattr(v, "ndim", None) == 0:
            return v.item()
        if hasattr(v, "tolist"):
            return v.tolist()
        raise ValueError(f"{what}: its configuration holds {type(v).__name__}, which a file cannot hold; let get_config() return plain values")
    try:
        text = json.dumps(value, default=plain, allow_nan=False, **options)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from error
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{what}: its description has {len(text)} characters; at most {MOST_CHARACTERS} can be read back")
    return text


def read_json(text, what):
    """JSON as plain values. A ValueError for text that is too long, too deep, ambiguous, or not JSON."""
    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands twice in an object")
        return found

    def refuse(literal):
        raise ValueError(f"{literal} is no JSON")

    def finite(literal):
        number = float(literal)
        return number if number - number == 0 else refuse(literal)

    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise ValueError(f"{what}: wants JSON of at most {MOST_CHARACTERS} characters")
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what}: the JSON in it cannot be read: {error}") from None
    level, count = [value], 0
    for _ in range(MOST_DEPTH):
        level = [inner for v in level if isinstance(v, (dict, list)) for inner in (v.values() if isinstance(v, dict) else v)]
        count += len(level)
        if not level:
            return value
        if count > MOST_VALUES:
            raise ValueError(f"{what}: the JSON in it has more than {MOST_VALUES} values")
    raise ValueError(f"{what}: the JSON in it is deeper than {MOST_DEPTH} levels")


def describe(model):
    """{"class_name", "config"} of a model, with the shapes of its first call where only they say how it is built."""
    description = serialize(model)
    built_on = model.built_on()
    if built_on is not None:
        description["built_on"] = built_on
    return description


def make(description):
    """The model that describe described, built where its description tells the shapes; its weights are new."""
    from .. import models  # noqa: F401: the classes of models must be known by name
    if not isinstance(description, dict):
        raise ValueError(f"the description of a model is a dict, not {type(description).__name__}")
    description = dict(description)
    built_on = description.pop("built_on", None)
    model = deserialize(description)
    if not isinstance(model, models.Model):
        raise ValueError(f"it describes a {type(model).__name__}, which is no model")
    if built_on is not None:
        model.build_from(built_on)
    return model


def model_to_json(model, **options):
    """The architecture as JSON; options go to json.dumps."""
    return write_json(describe(model), model.name, **options)


def model_from_json(json_string, custom_objects=None):
    """The model that to_json described, with new weights. custom_objects: {name: class} of what is not fastdl's."""
    with custom_object_scope(custom_objects):
        return make(read_json(json_string, "model_from_json"))


def own_objects(model):
    """{name: class or function} of what in a model, and in what compile was given, is not fastdl's."""
    parts = list(model._flatten_layers())
    held = [value for layer in parts for value in layer.__dict__.values()] + flatten(getattr(model, "compiled", None))
    found = parts + [value for value in held if hasattr(value, "get_config") or inspect.isfunction(value)]
    named = {(f if inspect.isfunction(f) else type(f)) for f in found}
    return {f.__name__: f for f in named if f.__module__.split(".")[0] != "fastdl"}


def clone_model(model):
    """A model of the same architecture with new weights."""
    with custom_object_scope(own_objects(model)):
        return make(describe(model))
