"""The `harness` command, one file a command."""
