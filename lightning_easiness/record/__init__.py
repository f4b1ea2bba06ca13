"""Runs on disk, and `EasinessRecord`, which reads them."""
