-- name: create_events_superseded
-- Which messages of a conversation were superseded: few events among many.
CREATE INDEX events_superseded ON events (conversation_id, version) WHERE type = 'MessagesSuperseded';
