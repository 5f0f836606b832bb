"""Differentiable operations: Functions with forward and backward, and the public functions over them."""
