"""One run: its data, its memory, its training and its ranking."""
