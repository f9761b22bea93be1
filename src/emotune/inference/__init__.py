"""Trained models at work: the classifier for users, and the backends that run models."""
