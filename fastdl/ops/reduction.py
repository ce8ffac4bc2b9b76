"""Reduction ops."""
