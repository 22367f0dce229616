"""The `turnlog` command; imports api and what lies below."""
