"""Routes of agents."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import TypeAdapter, ValidationError

from api.auth.access import SHARES_AGENTS
from api.auth.errors import ForbiddenError
from api.http.call import Call, CallParam, json_response
from api.http.cursors import decode_agent_place, encode_cursor, page
from api.http.openapi import AgentResource, Page
from api.http.problems import validation_problem
from api.http.requests.body_models import NewAgent
from api.http.requests.query_models import AgentListQuery, AgentMomentQuery, SharedQuery
from api.http.route import JSONRoute
from api.routes.as_of import find_moment
from api.routes.entity_tags import entity_tag, expected_versions
from domain.errors import AgentNotFoundError
from domain.values import Label
from projections.models.agent_listing import agent_row
from projections.models.json_resources import agent_resource

router = APIRouter(route_class=JSONRoute, tags=["agents"])

_LABEL: TypeAdapter[str] = TypeAdapter(Label)


@router.get("/v1/agents", response_model=Page[AgentResource])
async def list_agents(call: CallParam, query: Annotated[AgentListQuery, Query()]) -> Response:
    """List the agents that the caller's conversations can use, by label.

    For an auditor or an admin who names no owner they are everybody's.
    """
    owner_id = call.named_owner or call.readable_owner
    moment = await find_moment(call, query.as_of, query.cursor)
    kind = moment.kind("agents" if owner_id is None else f"agents.of.{owner_id}")
    beyond = decode_agent_place(kind, query.cursor)
    services, position = call.services, moment.position
    listing = services.agent_listing if position is None else services.past.agents(position)
    rows = await listing.page(owner_id, beyond, query.limit + 1)
    shown = page(rows, query.limit, agent_resource, lambda row: encode_cursor(kind, row.agent_id, row.id))
    return json_response(shown, headers=moment.headers())


@router.get("/v1/agents/{agent_id}", response_model=AgentResource)
async def get_agent(call: CallParam, agent_id: str, query: Annotated[AgentMomentQuery, Query()]) -> Response:
    """Read the agent that a label means: the owner's, or else the shared one."""
    moment = await find_moment(call, query.as_of)
    owner_id = None if query.shared else call.identity.owner_id
    agent = await call.services.agents.read(owner_id, _existing_label(agent_id), moment.upto)
    return json_response(agent_resource(agent_row(agent)), headers=entity_tag(agent.version) | moment.headers())


@router.put(
    "/v1/agents/{agent_id}",
    status_code=201,
    response_model=AgentResource,
    responses={200: {"model": AgentResource, "description": "The agent existed."}},
)
async def define_agent(
    call: CallParam, agent_id: str, body: NewAgent, query: Annotated[SharedQuery, Query()]
) -> Response:
    """Define an agent, or replace all settings of one. 200 if it existed."""
    _check_may_share(call, query)
    defined = await call.services.agent_commands.define(
        call.caller, _new_label(agent_id), body.settings(), expected_versions(call), shared=query.shared
    )
    resource = agent_resource(agent_row(defined.agent))
    response = await call.write_response(defined.position, resource, 201 if defined.created else 200)
    response.headers.update(entity_tag(defined.agent.version))
    return response


@router.delete("/v1/agents/{agent_id}", status_code=204)
async def delete_agent(call: CallParam, agent_id: str, query: Annotated[SharedQuery, Query()]) -> Response:
    """Delete an agent. Its conversations stay, and so does their label."""
    _check_may_share(call, query)
    deleted = await call.services.agent_commands.delete(
        call.caller, _existing_label(agent_id), expected_versions(call), shared=query.shared
    )
    return await call.write_response(deleted.position, status=204)


def _check_may_share(call: Call, query: SharedQuery) -> None:
    if query.shared and call.identity.role not in SHARES_AGENTS:
        raise ForbiddenError("Only an admin may write shared agents.")


def _existing_label(text: str) -> str:
    """Return a label.

    Raises:
        AgentNotFoundError: it is none, so no agent has it.
    """
    try:
        return _LABEL.validate_python(text)
    except ValidationError:
        raise AgentNotFoundError(text[:128]) from None


def _new_label(text: str) -> str:
    """Return a label.

    Raises:
        ProblemError: it is none, so no agent can have it.
    """
    try:
        return _LABEL.validate_python(text)
    except ValidationError:
        message = "must be 1 to 128 characters out of A-Za-z0-9._-"
        raise validation_problem("The request is not valid.", ("path", "agent_id"), message) from None
