"""CORPORA -> RECORDS: one file a corpus."""
