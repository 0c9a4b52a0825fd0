"""PyAV on either side of a clip."""
