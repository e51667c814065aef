"""`python -m sm_launch`: the command line where its script is not on the path."""

from sm_launch.cli import main

main()
