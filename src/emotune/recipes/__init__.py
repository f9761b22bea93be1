"""Recipes: whole configurations as YAML, read by `emotune.config.loading`."""
