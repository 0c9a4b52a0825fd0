"""Clips -> rows: every metric on every clip, in processes, resumable."""
