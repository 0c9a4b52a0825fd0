"""Talking heads that avgen draws itself."""
