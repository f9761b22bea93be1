"""Recipes: whole configurations as YAML, read by `emotune.config_files`."""
