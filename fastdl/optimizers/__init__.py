"""Optimisers: rules that change a model's parameters by their gradients."""

from . import schedules
from .optimizer import Optimizer
from .rules import SGD, Adam, AdamW, RMSprop

_known = {c.__name__.lower(): c for c in (SGD, RMSprop, Adam, AdamW)}


def get(identifier):
    """An Optimizer from its name, its serialised form, or itself."""
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier.lower() in _known:
        return _known[identifier.lower()]()
    raise ValueError(f"optimizer: {identifier!r} is not known\n  wanted: an Optimizer or one of {', '.join(_known)}")


def serialize(optimizer):
    """{"class_name", "config"}: what deserialize makes an equal optimiser of."""
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def deserialize(config):
    """The optimiser that serialize described."""
    name = config["class_name"].lower()
    if name not in _known:
        raise ValueError(f"optimizer: {config['class_name']!r} is not known\n  wanted: one of {', '.join(_known)}")
    return _known[name].from_config(config["config"])


__all__ = ["Adam", "AdamW", "Optimizer", "RMSprop", "SGD", "deserialize", "get", "schedules", "serialize"]
