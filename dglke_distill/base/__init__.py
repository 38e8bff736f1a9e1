"""What every other room stands on: errors, files, parsing, tensors on disk, the runtime."""
