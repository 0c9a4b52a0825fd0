"""CORPORA -> MANIFEST: one file a corpus, one file a preparation stage."""
