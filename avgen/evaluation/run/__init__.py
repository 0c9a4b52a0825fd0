"""A folder of clips to rows."""
