-- name: create_agents
-- One row per agent that exists. Key: the id of its aggregate. Fed by the definition and the deletion of agents.
-- `owner_id` is NULL if every owner may use the agent.
CREATE TABLE {agents} (
    id uuid NOT NULL,
    owner_id text,
    agent_id text COLLATE "C" NOT NULL,
    system_prompt text,
    model text,
    max_context_tokens integer,
    temperature double precision,
    tools jsonb NOT NULL,
    max_conversations integer,
    retain_days integer,
    tool_results_timeout_s double precision,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version integer NOT NULL
)

-- name: index_agents_key
-- The key.
ALTER TABLE {agents} ADD PRIMARY KEY (id)

-- name: index_agents_owner
-- The agents of an owner, and the shared ones, by label.
CREATE INDEX ON {agents} (owner_id, agent_id, id)

-- name: index_agents_everyone
-- The agents of all owners by label.
CREATE INDEX ON {agents} (agent_id, id)

-- name: delete_agents
-- Delete agents.
DELETE FROM {agents} AS a
USING json_to_recordset(%(rows)s::json) AS d(id uuid)
WHERE a.id = d.id

-- name: upsert_agents
-- Add agents, and replace the settings of those that exist.
INSERT INTO {agents} AS a (id, owner_id, agent_id, system_prompt, model, max_context_tokens, temperature, tools,
    max_conversations, retain_days, tool_results_timeout_s, created_at, updated_at, version)
SELECT d.id, d.owner_id, d.agent_id, d.system_prompt, d.model, d.max_context_tokens, d.temperature, d.tools,
    d.max_conversations, d.retain_days, d.tool_results_timeout_s, d.created_at, d.updated_at, d.version
FROM json_to_recordset(%(rows)s::json)
    AS d(id uuid, owner_id text, agent_id text, system_prompt text, model text, max_context_tokens integer,
        temperature double precision, tools jsonb, max_conversations integer, retain_days integer,
        tool_results_timeout_s double precision, created_at timestamptz, updated_at timestamptz, version integer)
ON CONFLICT (id) DO UPDATE SET
    system_prompt = EXCLUDED.system_prompt,
    model = EXCLUDED.model,
    max_context_tokens = EXCLUDED.max_context_tokens,
    temperature = EXCLUDED.temperature,
    tools = EXCLUDED.tools,
    max_conversations = EXCLUDED.max_conversations,
    retain_days = EXCLUDED.retain_days,
    tool_results_timeout_s = EXCLUDED.tool_results_timeout_s,
    updated_at = EXCLUDED.updated_at,
    version = EXCLUDED.version

-- name: read
-- The columns of an agent. A statement continues with one of the conditions below.
SELECT a.id, a.owner_id, a.agent_id, a.system_prompt, a.model, a.max_context_tokens, a.temperature, a.tools::text,
    a.max_conversations, a.retain_days, a.tool_results_timeout_s, a.created_at, a.updated_at, a.version
FROM {agents} AS a
WHERE (a.agent_id, a.id) > (%(label)s::text, %(id)s::uuid)

-- name: with_rows
-- Let the statement that continues read given rows in the place of the view.
WITH {agents} AS (
    SELECT * FROM json_to_recordset(%(rows)s::json)
        AS r(id uuid, owner_id text, agent_id text COLLATE "C", system_prompt text, model text,
            max_context_tokens integer, temperature double precision, tools jsonb, max_conversations integer,
            retain_days integer, tool_results_timeout_s double precision, created_at timestamptz,
            updated_at timestamptz, version integer)
)

-- name: and_of_owner
-- Those of one owner.
AND a.owner_id = %(owner_id)s

-- name: and_shared
-- The shared ones that no agent of the owner hides.
AND a.owner_id IS NULL
AND NOT EXISTS (SELECT 1 FROM {agents} AS own WHERE own.owner_id = %(owner_id)s AND own.agent_id = a.agent_id)

-- name: first
-- The first rows, by label.
ORDER BY agent_id, id LIMIT %(limit)s
