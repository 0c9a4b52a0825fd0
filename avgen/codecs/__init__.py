"""CLIP <-> LATENTS: autoencoders of picture and sound, behind two protocols."""
