-- name: read_tree
-- The name of the log, its tree as far as it is sealed, and the root of the last sealed head (NULL without one).
SELECT t.log_id, t.size, t.subtrees, (SELECT h.root FROM tree_heads AS h WHERE h.size = t.size)
FROM sealed_tree AS t WHERE t.only_row

-- name: read_log_id
-- The name of the log.
SELECT log_id FROM sealed_tree WHERE only_row

-- name: read_heads
-- All sealed heads, the smallest first.
SELECT size, root FROM tree_heads ORDER BY size

-- name: read_digests
-- The number of events after one position and up to another, and their digests in order of position as one value.
SELECT count(*), coalesce(string_agg(digest, ''::bytea ORDER BY position), ''::bytea) FROM events
WHERE position > %(after)s AND position <= %(upto)s

-- name: add_head
-- Store the tree and its head, unless another process has sealed more than `before` events meanwhile.
WITH tree AS (
    UPDATE sealed_tree SET size = %(size)s, subtrees = %(subtrees)s WHERE only_row AND size = %(before)s
    RETURNING size
)
INSERT INTO tree_heads (size, root) SELECT size, %(root)s FROM tree
RETURNING size
