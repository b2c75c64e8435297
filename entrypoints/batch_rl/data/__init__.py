"""Logged episodes as arrays, tables of them and what is wrong with those, and the features' types."""
