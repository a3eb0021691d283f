"""`python -m transport`: the command line without the installed script."""

from transport.cli import main

main()
