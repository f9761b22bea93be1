"""Tables of any size, read in blocks of whole records for prediction: `TableFile`, `Layout` and `Records`."""
