"""ReAgent's table and timeline, in this process or on Spark."""
