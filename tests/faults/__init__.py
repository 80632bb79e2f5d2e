"""What goes wrong around the program: disks, rights, signals, clocks."""
