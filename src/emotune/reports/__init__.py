"""Scores made readable: tables, Markdown, pictures, the model card."""
