-- name: read_head
-- The position of the last event.
SELECT position FROM head WHERE only_row

-- name: read_chunks
-- Events with chunks between two positions, without the first.
SELECT position, data::text FROM events WHERE position > %s AND position <= %s AND type = 'StreamDelta'

-- name: count_commits
-- The number of transactions that recorded the events between two positions, without the first.
SELECT count(DISTINCT xmin::text) FROM events WHERE position > %s AND position <= %s
