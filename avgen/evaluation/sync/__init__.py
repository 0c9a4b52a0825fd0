"""Do picture and sound belong together, and when."""
