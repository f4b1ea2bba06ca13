"""Examples: their indices, subsets of a data set, and loaders that know which example is where in a batch."""
