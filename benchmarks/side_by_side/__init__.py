"""Two engines on one file, taking turns, each in a process of its own."""
