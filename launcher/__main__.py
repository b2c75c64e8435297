"""``python -m launcher``: the command line."""

from launcher.cli.main import main

main()
