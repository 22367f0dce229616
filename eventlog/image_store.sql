-- name: store_image
-- Store an image. An image that is stored already is not changed.
INSERT INTO images (sha256, media_type, data, kept_at) VALUES (%(sha256)s, %(media_type)s, %(data)s, %(kept_at)s)
ON CONFLICT (sha256) DO NOTHING
RETURNING 1

-- name: read_images
-- The bytes of some images.
SELECT sha256, data FROM images WHERE sha256 = ANY(%(digests)s)
