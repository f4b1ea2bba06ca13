"""Examples: their indices, subsets of a data set, and loaders whose batches carry the indices of their examples."""
