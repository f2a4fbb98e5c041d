"""An independent float64 oracle: block decoding, rope, decoder, and writers of tiny models.

Nothing in here imports the product (test_independence.py holds that), so agreement between
the two is evidence. Facts about GGUF keys and rope scaling are those of llama.cpp.
"""
