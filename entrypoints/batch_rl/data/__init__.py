"""Logged episodes as arrays, tables of them with their faults, and the types of features."""
