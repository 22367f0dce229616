"""One module for each format that can be imported. May import what `audit.imports` may."""
