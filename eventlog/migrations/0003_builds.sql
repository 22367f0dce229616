-- name: add_build
-- A version of a projection may be built more than once. Each build has its own tables.
ALTER TABLE projections ADD COLUMN build integer NOT NULL DEFAULT 1;

-- name: add_state
-- building: not readable yet. live: read by clients. kept: read before, for a rollback. scratch: built for a comparison.
ALTER TABLE projections ADD COLUMN state text NOT NULL DEFAULT 'live'
    CHECK (state IN ('building', 'live', 'kept', 'scratch'));

-- name: add_tables
-- The names of a build's tables without version and build, so that a later release can drop them.
ALTER TABLE projections ADD COLUMN tables text[] NOT NULL DEFAULT '{}';

-- name: fill_tables
-- The tables of the first release.
UPDATE projections SET tables = CASE name WHEN 'history' THEN '{history,turns,stream_text}'::text[] ELSE ARRAY[name] END;

-- name: drop_key
-- The new key includes the build.
ALTER TABLE projections DROP CONSTRAINT projections_pkey;

-- name: add_key
-- One row per build of a version of a projection.
ALTER TABLE projections ADD CONSTRAINT projections_pkey PRIMARY KEY (name, version, build);

-- name: create_projections_live
-- At most one build of a version is live.
CREATE UNIQUE INDEX projections_live ON projections (name, version) WHERE state = 'live';

-- name: create_rebuilds
-- One row per running build: its phase, the `target` position, the number of parts, and the parts left when it resumed.
CREATE TABLE rebuilds (
    name text NOT NULL,
    version integer NOT NULL,
    build integer NOT NULL,
    phase text NOT NULL CHECK (phase IN ('loading', 'indexing', 'following')),
    target bigint NOT NULL,
    parts integer NOT NULL,
    resumed_at timestamptz NOT NULL,
    resumed_parts integer NOT NULL,
    PRIMARY KEY (name, version, build)
);

-- name: create_rebuild_parts
-- One row per part of a build that is not loaded yet: the conversations from `first_id` to `last_id`, both included.
CREATE TABLE rebuild_parts (
    name text NOT NULL,
    version integer NOT NULL,
    build integer NOT NULL,
    first_id uuid NOT NULL,
    last_id uuid NOT NULL,
    PRIMARY KEY (name, version, build, first_id)
);

-- name: rename_listing
-- The tables of the first release become build 1.
ALTER TABLE IF EXISTS listing_v1 RENAME TO listing_v1_1;

-- name: rename_history
-- The tables of the first release become build 1.
ALTER TABLE IF EXISTS history_v1 RENAME TO history_v1_1;

-- name: rename_turns
-- The tables of the first release become build 1.
ALTER TABLE IF EXISTS turns_v1 RENAME TO turns_v1_1;

-- name: rename_stream_text
-- The tables of the first release become build 1.
ALTER TABLE IF EXISTS stream_text_v1 RENAME TO stream_text_v1_1;

-- name: rename_context
-- The tables of the first release become build 1.
ALTER TABLE IF EXISTS context_v1 RENAME TO context_v1_1;
