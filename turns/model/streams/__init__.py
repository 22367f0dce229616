"""Streamed answers: from bytes to events, chunks, tool calls and a finish reason.

Imports domain and turns.model.
"""
