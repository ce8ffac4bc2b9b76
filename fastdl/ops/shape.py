"""Shape ops."""
