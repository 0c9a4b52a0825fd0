"""NOISE <-> DATA: the path between them, noise levels, samplers, guidance and the loss.

Needs torch alone. A network is seen here only as `denoise(noisy, sigma) -> clean`.
"""
