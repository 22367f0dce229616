"""`turnlog import`. May import what `cli` may."""
