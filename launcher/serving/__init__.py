"""A trained model at work: hosts of models, and endpoints that answer requests."""
