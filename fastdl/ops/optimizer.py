"""Optimizer ops."""
