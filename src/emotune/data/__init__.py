"""Files of labelled text → records → token batches. No torch."""
