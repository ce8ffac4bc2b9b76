"""Optimisers: rules that change a model's parameters by their gradients."""

from ..registry import Registry
from . import schedules
from .optimizer import Optimizer
from .rules import SGD, Adam, AdamW, RMSprop

_known = Registry("optimizer", Optimizer, (SGD, RMSprop, Adam, AdamW), {"rmsprop": RMSprop, "adamw": AdamW}, wanted="an Optimizer")
get, serialize, deserialize = _known.get, _known.serialize, _known.deserialize

__all__ = ["Adam", "AdamW", "Optimizer", "RMSprop", "SGD", "deserialize", "get", "schedules", "serialize"]
