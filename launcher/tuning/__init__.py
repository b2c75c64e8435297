"""Hyperparameter tuning jobs: training jobs in parallel, whose values a strategy chooses by the results so far."""
