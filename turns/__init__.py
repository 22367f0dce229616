"""One turn from the user's message to its end: model gateway, streaming, frames; imports all but api and cli."""
