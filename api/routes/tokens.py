"""Route of short tokens, for clients that cannot send headers."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from api.http.call import CallParam, json_response
from api.http.openapi import ShortTokenResource
from api.http.route import JSONRoute
from projections.models.json_resources import rfc3339

router = APIRouter(route_class=JSONRoute, tags=["authentication"])


@router.post("/v1/tokens", status_code=201, response_model=ShortTokenResource)
async def issue_token(call: CallParam) -> Response:
    """Issue a token for `?access_token=` of the caller's event streams.

    It works for ten minutes at most, and for the caller's own streams only.
    """
    token = await call.services.authenticator.short_tokens.issue(call.identity)
    expires_at = rfc3339(datetime.fromtimestamp(token.expires_at, UTC))
    resource = {"access_token": token.text, "token_type": "Bearer", "expires_at": expires_at}
    return json_response(resource, 201, {"Cache-Control": "no-store"})
