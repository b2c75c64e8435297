"""Policies that act, environments that they act in, and episodes that are logged on the way."""
