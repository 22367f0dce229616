-- name: create_images
-- One row per image, keyed by the SHA-256 of its bytes. Events of many messages may refer to one row.
CREATE TABLE images (
    sha256 bytea PRIMARY KEY,
    media_type text NOT NULL,
    data bytea STORAGE EXTERNAL NOT NULL,
    kept_at timestamptz NOT NULL
);

-- name: comment_images
-- The grain of the table, shown by psql.
COMMENT ON TABLE images IS 'One row per image, kept once however often it was sent: content blocks of events name it by the hex digits of sha256. kept_at is when it was sent first. data is not compressed, as images are already.';
