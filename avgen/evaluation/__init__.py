"""CLIPS -> NUMBERS: whether sound and picture are in sync, and how sure that is.

Everywhere, **offset > 0 means that the sound comes before the picture** (delaying the sound puts it
right), in frames of 25 fps and in ms.
"""
