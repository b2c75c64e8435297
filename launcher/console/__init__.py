"""The console: pages on what lives in a home, for a browser on this machine. It reads, and changes nothing."""

ROOT = "/_console"
"""The path below which every page lies; no bucket of an S3 can have that name."""
