"""Data sets and their subsets, and loaders whose batches carry the indices of their examples."""
