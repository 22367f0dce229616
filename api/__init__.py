"""The thin HTTP API: routes, wire models, problems, SSE, settings; imports turns and what lies below."""
