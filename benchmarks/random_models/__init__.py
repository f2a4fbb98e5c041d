"""GGUF files with the shapes of real models and random weights, for benchmarks."""
