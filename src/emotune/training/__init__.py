"""Fitting an encoder classifier: the loop, its step, what it steps with."""
