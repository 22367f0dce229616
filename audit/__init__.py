"""Audits of the log: proofs that nothing was changed, and imports.

Imports turns and the layers below.
"""
