"""Batches: where fit, evaluate and predict get them from."""

from .batches import Arrays, Batches  # noqa: F401
