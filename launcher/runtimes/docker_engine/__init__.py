"""The runtime ``docker``; docker-py is in this folder alone."""
