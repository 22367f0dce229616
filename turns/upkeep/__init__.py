"""Keeps turns that run, and ends those that are lost or overdue, in all processes."""
