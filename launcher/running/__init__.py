"""From a specification to a finished job."""
