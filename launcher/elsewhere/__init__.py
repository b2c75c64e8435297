"""Training jobs of another machine: sent there by the system's ssh client, seen through by the launcher there."""
