"""Merkle trees, signed notes and checkpoints.

Pure, but for the file of the signing key. Imports none of the other packages.
"""
