-- name: create_request_allowances
-- One row per owner and serving process: the requests it was granted in the owner's minute, used or not. After a crash of
-- PostgreSQL the table is empty, and counting begins anew.
CREATE UNLOGGED TABLE request_allowances (
    owner_id text NOT NULL,
    holder uuid NOT NULL,
    begins_at timestamptz NOT NULL,
    granted integer NOT NULL,
    PRIMARY KEY (owner_id, holder)
);

-- name: create_take_requests
-- Grants a process a quarter of the requests that are left in the owner's minute, and begins a minute if none runs.
-- `known_minute` and `used` are what the process knows of its own requests. A second call with the same values grants
-- the same requests again.
CREATE FUNCTION take_requests(
    the_owner text, the_holder uuid, known_minute timestamptz, used integer, at_most integer
) RETURNS TABLE (minute timestamptz, taken integer, left_s double precision) LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
    others bigint;
    own bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ':requests:' || the_owner, 0));
    -- now() may be before the minute that another process began while this one waited for the lock. A minute that is
    -- ahead was begun before the clock was set back. It goes on, so that no request is granted twice.
    moment := clock_timestamp();
    SELECT max(begins_at) INTO minute FROM request_allowances
    WHERE owner_id = the_owner AND begins_at > moment - interval '1 minute' AND begins_at < moment + interval '1 minute';
    minute := coalesce(minute, moment);
    SELECT coalesce(sum(granted) FILTER (WHERE holder <> the_holder), 0),
        coalesce(sum(granted) FILTER (WHERE holder = the_holder), 0)
    INTO others, own FROM request_allowances WHERE owner_id = the_owner AND begins_at = minute;
    IF minute = known_minute THEN
        own := used;
    END IF;
    taken := greatest(ceil((at_most - others - own) / 4.0), 0);
    INSERT INTO request_allowances VALUES (the_owner, the_holder, minute, own + taken)
    ON CONFLICT (owner_id, holder) DO UPDATE SET begins_at = EXCLUDED.begins_at, granted = EXCLUDED.granted;
    left_s := extract(epoch FROM minute + interval '1 minute' - moment);
    RETURN NEXT;
END
$$;

-- name: create_open_streams
-- One row per open event stream of an owner with a limit. An expired row means that its process has died.
CREATE UNLOGGED TABLE open_streams (
    stream_id uuid PRIMARY KEY,
    owner_id text NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

-- name: create_open_streams_owner
-- The streams of an owner are counted whenever one opens.
CREATE INDEX open_streams_owner ON open_streams (owner_id);

-- name: create_open_stream
-- Records a stream and returns true, unless the owner has as many as it may have.
CREATE FUNCTION open_stream(
    the_stream uuid, the_owner text, the_holder uuid, seconds double precision, at_most integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ':streams:' || the_owner, 0));
    moment := clock_timestamp();
    -- A stream that expires later than any may was recorded before the clock was set back.
    DELETE FROM open_streams WHERE owner_id = the_owner
        AND (expires_at < moment OR expires_at > moment + make_interval(secs => 2 * seconds));
    IF (SELECT count(*) FROM open_streams WHERE owner_id = the_owner AND stream_id <> the_stream) >= at_most THEN
        RETURN false;
    END IF;
    INSERT INTO open_streams VALUES (the_stream, the_owner, the_holder, moment + make_interval(secs => seconds))
    ON CONFLICT (stream_id) DO UPDATE SET expires_at = EXCLUDED.expires_at;
    RETURN true;
END
$$;

-- name: add_leases_owner
-- The owner whose limit of running turns a lease counts against. NULL: a queued turn, or there is no limit.
ALTER TABLE leases ADD COLUMN owner_id text;

-- name: create_leases_owner
-- The running turns of an owner are counted whenever one starts.
CREATE INDEX leases_owner ON leases (owner_id) WHERE owner_id IS NOT NULL;

-- name: create_acquire_running
-- Acquires the lease of a turn that is to run and returns true, unless the owner has as many as it may have. The holder's
-- own leases of the turns in `gone` do not count.
CREATE FUNCTION acquire_running(
    the_turn uuid, the_conversation uuid, the_holder uuid, seconds double precision,
    the_owner text, at_most integer, gone uuid[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ':turns:' || the_owner, 0));
    IF (
        SELECT count(*) FROM leases
        WHERE owner_id = the_owner AND turn_id <> the_turn AND NOT (holder = the_holder AND turn_id = ANY(gone))
    ) >= at_most THEN
        RETURN false;
    END IF;
    INSERT INTO leases (turn_id, conversation_id, holder, expires_at, owner_id)
    VALUES (the_turn, the_conversation, the_holder, now() + make_interval(secs => seconds), the_owner)
    ON CONFLICT (turn_id) DO UPDATE
    SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at, owner_id = EXCLUDED.owner_id;
    RETURN true;
END
$$;
