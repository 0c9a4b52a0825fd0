"""THE NETWORK: one stream of text, picture and sound tokens."""
