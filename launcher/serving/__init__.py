"""Models at work: a container that serves, and how this machine talks to it."""
