"""Authentication: keys, JSON Web Tokens, short tokens, and what each role may do.

It knows no HTTP beyond the values of headers. It may import `eventlog`.
"""
