"""The run directory: what a training leaves beside its model."""
