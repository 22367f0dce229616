-- name: create_key
-- Store a key by its hash. A repeated statement changes nothing.
INSERT INTO keys (id, owner_id, role, name, prefix, sha256, created_at, expires_at)
VALUES (%(id)s, %(owner_id)s, %(role)s, %(name)s, %(prefix)s, %(sha256)s, %(created_at)s, %(expires_at)s)
ON CONFLICT (id) DO NOTHING

-- name: list_keys
-- All keys, oldest first.
SELECT id, owner_id, role, name, prefix, created_at, expires_at, revoked_at FROM keys ORDER BY created_at, id

-- name: revoke_key
-- Revoke a key. One that was revoked before keeps its time.
UPDATE keys SET revoked_at = coalesce(revoked_at, %(revoked_at)s) WHERE id = %(id)s
RETURNING id, owner_id, role, name, prefix, created_at, expires_at, revoked_at

-- name: read_keys
-- Some keys that are not revoked, by hash or by id.
SELECT id, sha256, owner_id, role, expires_at FROM keys
WHERE (sha256 = ANY(%(digests)s) OR id = ANY(%(ids)s)) AND revoked_at IS NULL

-- name: create_secret
-- Store the secret that signs short tokens, unless there is one.
INSERT INTO token_secret (id, secret, created_at) VALUES (1, %(secret)s, %(created_at)s) ON CONFLICT (id) DO NOTHING

-- name: read_secret
-- The secret that signs short tokens.
SELECT secret FROM token_secret
