"""Scoring texts: the classifier for users, and the backends that run models."""
