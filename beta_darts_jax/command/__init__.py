"""The command beta-darts: its help, its flags, the runs that it starts, and the other commands."""
