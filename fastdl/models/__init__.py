"""Models: Sequential, Model, and loading them."""

from ..layers.core import Input  # noqa: F401
from ..saving import clone_model, load_model, model_from_json, save_model  # noqa: F401
from .model import Model  # noqa: F401
from .sequential import Sequential  # noqa: F401
