"""Training: the loop, its session, optimizer, device and checkpoints."""
