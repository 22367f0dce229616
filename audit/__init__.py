"""Audits of the log: proofs that nothing was changed.

Imports turns and the layers below.
"""
