"""Convolution ops."""
