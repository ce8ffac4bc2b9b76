"""Runnable examples: python -m fastdl.examples.image_classification, .regression, .text_classification."""
