"""`python -m emotune`."""

from emotune.cli.app import main

main()
