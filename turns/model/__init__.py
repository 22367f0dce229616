"""The model gateway: one call to a model provider, streamed; imports domain and projections."""
