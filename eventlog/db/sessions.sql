-- name: apply_settings
-- Apply the settings of a JSON object to the session. A setting that an older PostgreSQL lacks is left out.
SELECT pg_catalog.set_config(name, setting, false)
FROM pg_catalog.jsonb_each_text(%(settings)s::text::jsonb) AS given (name, setting)
WHERE pg_catalog.current_setting(name, true) IS NOT NULL
