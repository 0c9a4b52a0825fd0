"""CLIP FILE -> WHAT IT SAYS OF ITSELF: invisible marks, a signature, and whoever looks for them.

`picture_mark` and `sound_mark` are found without the original; `signing` writes and reads C2PA
manifests by `certificates`; `findings` say what is there. docs/provenance.md says what none can do.
"""
