"""The iterative distiller: soft labels, their weight over time, methods, and the chain of sizes."""
