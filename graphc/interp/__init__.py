"""Evaluators of the tensor graph."""
