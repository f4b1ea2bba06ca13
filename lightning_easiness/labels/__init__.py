"""Label errors: where scores come from, the rules that flag labels, and the table of them."""
