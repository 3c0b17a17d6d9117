"""`python -m app` is the `madrone` command."""

from app.cli import main

main()
