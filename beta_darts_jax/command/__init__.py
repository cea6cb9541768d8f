"""The command beta-darts: its help, its flags, and the runs that it starts."""
