"""``python -m launcher``: the command line."""

from launcher.cli.entry import main

main()
