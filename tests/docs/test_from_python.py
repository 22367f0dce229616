"""The code of docs/from-python.md runs and prints the output on the page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.store import rows

PAGE = (Path(__file__).parents[2] / "docs" / "from-python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
IN_MEMORY = "application = ConversationApplication()\n"
*STEPS, (ON_POSTGRESQL, _) = BLOCKS


@pytest.fixture(params=["in memory", "on PostgreSQL"])
def opening(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "in memory":
        yield IN_MEMORY
        return
    url: str = request.getfixturevalue("database_url")
    yield ON_POSTGRESQL.replace("postgresql://localhost/turnlog", url)
    recorded = rows(url, "SELECT position, version FROM events ORDER BY position")
    assert recorded == [(number, number) for number in range(1, 9)]


def test_the_code_prints_the_output_on_the_page(opening: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert STEPS[0][0].count(IN_MEMORY) == 1
    names: dict[str, Any] = {}
    for code, printed in STEPS:
        exec(code.replace(IN_MEMORY, opening), names)
        assert capsys.readouterr().out == printed
