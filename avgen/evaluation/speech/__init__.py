"""What is said, and how well."""
