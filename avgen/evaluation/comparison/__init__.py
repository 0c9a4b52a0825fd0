"""Clips beside real ones."""
