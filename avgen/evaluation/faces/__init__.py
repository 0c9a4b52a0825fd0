"""Faces and mouths in frames."""
