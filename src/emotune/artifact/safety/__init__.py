"""Checks of model files before any library opens them. No torch.

A model may come from anybody. Each check bounds what it reads, and raises a ModelError that names the fault and its
place.
"""
