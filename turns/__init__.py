"""One turn from the user's message to its end, and the model gateway. Imports everything except `api` and `cli`."""
