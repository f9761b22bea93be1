"""What is wrong with labelled texts, and what to do about it."""
