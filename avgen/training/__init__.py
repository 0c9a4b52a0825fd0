"""LIGHTNING: systems, data and recipes; imports everything and is imported by nothing."""
