-- name: read_image
-- One image.
SELECT media_type, kept_at, data FROM images WHERE sha256 = %(sha256)s
