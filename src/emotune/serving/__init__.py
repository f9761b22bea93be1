"""The HTTP server: models by name, requests in three forms, dynamic batching, limits."""
