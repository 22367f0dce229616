"""The read models: each module has one projection and its reader; imports domain, eventlog and projections."""
