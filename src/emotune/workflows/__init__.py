"""One module per verb, where the parts are joined. Nothing is printed here: a `Reporter` is told."""
