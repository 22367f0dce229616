"""Conversations in the exports of other programs, as one neutral model. May import `domain`.

`import_formats` reads a file. `formats/` has the formats.
"""
