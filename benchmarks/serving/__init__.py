"""Servers under load: streams of completions, and the servers they come from."""
