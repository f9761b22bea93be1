"""The quality of labelled texts: statistics, findings and advice."""
