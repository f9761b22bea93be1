"""Torch modules that classify: they know nothing of files' layouts or of training."""
