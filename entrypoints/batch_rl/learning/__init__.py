"""Learning from logged episodes or in an environment, checkpoints, and the servable model."""
