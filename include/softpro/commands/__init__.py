"""The parts of the command line that have subcommands of their own."""
