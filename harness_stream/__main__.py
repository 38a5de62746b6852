"""`python -m harness_stream` is the `harness` command."""

from harness_stream.cli.main import main

main()
