"""Helpers that belong to no room: RNG state, warnings, tables, Lightning's private parts."""
