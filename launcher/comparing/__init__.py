"""What two jobs do not share: ``jobs.py`` compares two, ``replaying.py`` makes the second of the first."""
