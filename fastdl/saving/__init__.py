"""Saving and loading models: one safetensors file with the architecture as JSON in its header."""

from ..layers.serialization import custom_object_scope  # noqa: F401
from .files import load_model, load_weights, model_from_bytes, model_to_bytes, save_model, save_weights  # noqa: F401
from .architecture import clone_model, model_from_json, model_to_json  # noqa: F401
