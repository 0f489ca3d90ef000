"""Elementary functions as arithmetic at thread level."""
