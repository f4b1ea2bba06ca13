"""Images of examples, image grids, figures, and what TensorBoard shows of them."""
