"""Audits of the log: proofs that nothing was changed, exports and imports.

Imports turns and the layers below.
"""
