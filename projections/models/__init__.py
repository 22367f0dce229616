"""Read models with their readers. Imports domain, eventlog and projections."""
