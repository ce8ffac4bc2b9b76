"""Layers as plain values, and back. Names are looked up in the closed list of fastdl's layers and in what the caller gives."""

import contextlib
import threading

from .layer import Layer, layers_by_name


class _Custom(threading.local):
    objects = {}


_custom = _Custom()


@contextlib.contextmanager
def custom_object_scope(custom_objects):
    """Context manager: {name: class or function} that configurations may name inside it."""
    for name, value in (custom_objects or {}).items():
        if not isinstance(name, str) or not callable(value):
            raise TypeError(f"custom_objects: {name!r} stands for {type(value).__name__}; wants a dict of classes and functions by name")
    before, _custom.objects = _custom.objects, {**_custom.objects, **(custom_objects or {})}
    try:
        yield
    finally:
        _custom.objects = before


def custom_object(name):
    """The class or function that the caller gave under this name, or None."""
    return _custom.objects.get(name) if isinstance(name, str) else None


def serialize(layer):
    """{"class_name", "config"}: what deserialize makes an equal layer of."""
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(config, custom_objects=None):
    """The layer that serialize described, unbuilt. custom_objects: {name: class} of layers that are not fastdl's."""
    if not isinstance(config, dict) or set(config) != {"class_name", "config"} or not isinstance(config["config"], dict):
        raise ValueError(f"a layer's description is a dict of class_name and config, not {_short(config)}")
    name, config = config["class_name"], config["config"]
    with custom_object_scope(custom_objects):
        cls = custom_object(name) or (layers_by_name.get(name) if isinstance(name, str) else None)
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise ValueError(f"there is no layer {_short(name)} in fastdl\n  give custom_objects={{{_short(name)}: …}} if it is your own class")
        try:
            given = {key: _function(value) if _names_function(key) else value for key, value in config.items()}
            return cls.from_config(given)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{name}: its configuration does not fit: {error}\n  config  {_short(config)}") from error


def _function(value):
    """What stands for a function: one's own by its name, a layer by its description; the rest is looked up by the layer."""
    if isinstance(value, dict) and value.get("class_name") in layers_by_name:
        return deserialize(value)
    return custom_object(value) or value


def _names_function(key):
    return key.rsplit("_", 1)[-1] in ("activation", "initializer", "regularizer", "constraint", "function")


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
