"""One module for each format. May import what `audit.imports` may."""
