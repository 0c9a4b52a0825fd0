"""LSE-C and LSE-D by the reference protocol."""
