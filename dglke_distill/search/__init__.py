"""Search for settings: spaces, and the studies that try them on the validation split."""
