"""Input channels: which objects a channel holds, how they reach a host as files, and how they are streamed."""
