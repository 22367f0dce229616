"""The bytes that a provider streams, read as chunks, calls and an end."""
