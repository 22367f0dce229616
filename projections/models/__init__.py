"""The read models: each module holds a projection and its reader. Imports domain, eventlog and projections."""
