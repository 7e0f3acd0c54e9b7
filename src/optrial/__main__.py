"""`python -m optrial`, the same as `optrial`."""

from optrial.cli import main

main()
