-- name: create_events_superseded
-- The events that supersede messages, which are few among many.
CREATE INDEX events_superseded ON events (conversation_id, version) WHERE type = 'MessagesSuperseded';
