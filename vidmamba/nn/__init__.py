"""Temporal modules: tensors in, tensors out."""
