"""schemathesis makes requests up from the OpenAPI document, and finds nothing.

It sends valid and invalid requests to a server, and checks status, headers, media type and content of each answer
against the document. The number of requests is fixed, and so is its choice of values.
"""

from copy import deepcopy
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests import Session
from schemathesis.config import SchemathesisConfig

from api.auth.identity import ROLES, GrantedRole
from api.http.request import MAX_DIGITS
from tests.integration.api.document.conftest import Prepare
from tests.support.http.callers import Caller, Guarded
from tests.support.http.cut_streams import cutting_session
from tests.support.http.openapi_document import DocumentedOperation, Schema, application_document

pytestmark = pytest.mark.slow

DOCUMENT = application_document()
OPERATIONS = {operation.label: operation for operation in DOCUMENT.operations}
COMMON = {f"#/components/parameters/{name}" for name in ("Turnlog-Owner", "X-Request-Id")}
CONFIG = {
    "generation": {
        "mode": "all",
        "allow-extra-parameters": False,  # unknown headers are ignored, as HTTP demands
        "with-security-parameters": False,  # the callers bring their keys
    },
    "phases": {"coverage": {"unexpected-methods": ["TRACE"]}},
    "checks": {
        # A refusal may also be that of an earlier rule, such as 404 for a missing message.
        "negative_data_rejection": {"expected-statuses": ["4xx"]},
        # Some rules of content go beyond JSON Schema, such as the blocks of a role.
        "positive_data_acceptance": {"enabled": False},
    },
}


def fixed(max_examples: int, *phases: Phase) -> settings:
    """Return settings that make the same requests in every run."""
    return settings(
        max_examples=max_examples,
        phases=phases,
        derandomize=True,
        database=None,
        suppress_health_check=(
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
            HealthCheck.large_base_example,
        ),
    )


def without_common_headers(content: Schema) -> Schema:
    """Return the document with one operation that has the common headers.

    All operations read them alike, and their values would be a third of all requests.
    """
    content = deepcopy(content)
    for path, operations in content["paths"].items():
        for method, declared in operations.items():
            if (method, path) != ("post", "/v1/conversations"):
                declared["parameters"] = [each for each in declared["parameters"] if each.get("$ref") not in COMMON]
    return content


schema = schemathesis.openapi.from_dict(
    without_common_headers(DOCUMENT.content), config=SchemathesisConfig.from_dict(CONFIG)
)


class Users:
    """The callers of each operation, and what their requests name.

    Every operation has an owner of its own, so that one that deletes takes nothing from another.
    """

    def __init__(self, guarded: Guarded, prepare: Prepare) -> None:
        self.guarded = guarded
        self.session: Session = cutting_session()
        self._prepare = prepare
        self._owners: dict[str, Caller] = {}
        self._callers: dict[tuple[str, GrantedRole], Caller] = {}
        self._ids: dict[str, dict[str, str]] = {}

    def call(self, case: schemathesis.Case[Any], role: GrantedRole) -> None:
        """Send a request and check its answer."""
        operation = OPERATIONS[case.operation.label]
        caller = self._caller(operation, role)
        self._fill(case, operation, caller)
        response = case.call_and_validate(
            base_url=str(self.guarded.api.http.base_url),
            session=self.session,
            headers={**caller.headers, "X-Role": role},  # a failure shows the headers
        )
        if operation.method != "GET" and response.status_code < 300:
            self._ids.pop(operation.label, None)

    def _owner(self, operation: DocumentedOperation) -> Caller:
        if operation.label not in self._owners:
            self._owners[operation.label] = self.guarded.caller("user")
        return self._owners[operation.label]

    def _caller(self, operation: DocumentedOperation, role: GrantedRole) -> Caller:
        owner = self._owner(operation)
        if role == "user":
            return owner
        if (operation.label, role) not in self._callers:
            headers = {"Turnlog-Owner": owner.owner_id} if role == "service" else {}
            self._callers[operation.label, role] = self.guarded.caller(role, **headers)
        return self._callers[operation.label, role]

    def _fill(self, case: schemathesis.Case[Any], operation: DocumentedOperation, caller: Caller) -> None:
        """Let valid ids and positions name what exists. Invalid ones stay."""
        if operation.label not in self._ids:
            self._ids[operation.label] = self._prepare(self._owner(operation), operation)
        for name, value in self._ids[operation.label].items():
            if _is_id((case.path_parameters or {}).get(name)):
                case.path_parameters[name] = value
        position = str((case.headers or {}).get("Turnlog-Position"))
        if position.isdecimal() and len(position) <= MAX_DIGITS:
            case.headers["Turnlog-Position"] = "1"  # the log has reached it, so nothing waits
        if "Turnlog-Owner" in (case.headers or {}):
            # One that is made up is refused to everybody but a service, which has its own.
            del case.headers["Turnlog-Owner"]


def _is_id(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session")
def users(guarded: Guarded, prepare: Prepare) -> Users:
    guarded.caller("user").conversation()  # the log has a first position
    return Users(guarded, prepare)


# The explicit phase has the examples of the document, the boundaries of each value, and methods that a path lacks.
@schema.parametrize()
@fixed(8, Phase.explicit, Phase.generate)
def test_an_operation_is_what_the_document_says(case: schemathesis.Case[Any], users: Users) -> None:
    users.call(case, OPERATIONS[case.operation.label].role)


@schema.parametrize()
@fixed(3, Phase.generate)
def test_every_role_gets_documented_answers(case: schemathesis.Case[Any], users: Users) -> None:
    for role in ROLES:
        users.call(case, role)
