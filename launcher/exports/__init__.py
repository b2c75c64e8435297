"""A job as a document for an engine that the launcher does not talk to; that engine's own tool sends it."""
