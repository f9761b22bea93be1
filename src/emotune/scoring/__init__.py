"""Numbers in, numbers out: metrics, thresholds, calibration. No torch, no files."""
