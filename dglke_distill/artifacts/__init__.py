"""What a training leaves: models on disk and their results."""
