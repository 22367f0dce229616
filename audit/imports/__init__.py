"""Conversations in the exports of other programs, as one model.

May import `domain`.

`import_formats` reads a file. `formats/` has the formats.
"""
