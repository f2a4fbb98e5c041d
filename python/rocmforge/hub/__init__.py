"""Models from the Hugging Face hub: pulled by the command line alone, found by name afterwards."""
