"""`make run`: a whole cluster on this machine, watched while it works."""
