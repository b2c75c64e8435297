"""Endpoints: containers that answer one request at a time, and the log of what they answered."""
