"""Presets: YAML files that hold every value of a job."""
