"""Groups of commands of the command line, one file each, and what all commands share."""
