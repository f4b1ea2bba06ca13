"""Label errors: where scores come from, the rules that call labels wrong, and the table of them."""
