"""The command `strive`: one module for each subcommand. Imports no torch."""
