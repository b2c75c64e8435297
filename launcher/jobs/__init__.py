"""A job as data: its specification, its record, its folder."""
