"""Batch transform: the records of many objects through a model that serves, and its answers where they belong."""
