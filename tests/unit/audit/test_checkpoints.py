"""Checkpoints have C2SP's form, and no other text is read as one."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.proofs.checkpoints import Checkpoint, parse_checkpoint
from audit.proofs.errors import CheckpointError

# The example of https://c2sp.org/tlog-checkpoint.
TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ORIGIN, SIZE, ROOT = TEXT.splitlines()

lines = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


def test_the_published_example() -> None:
    checkpoint = parse_checkpoint(TEXT)
    assert checkpoint[:2] == ("example.com/behind-the-sofa", 20852163)
    assert b64encode(checkpoint.root).decode() == ROOT
    assert checkpoint.text() == TEXT


@given(lines, st.integers(0, 10**19 - 1), st.binary(min_size=32, max_size=32), st.lists(lines, max_size=3))
def test_every_checkpoint_is_read_from_its_text(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "\n",
        TEXT[:-1],
        f"{TEXT}\n",
        f"\n{TEXT}",
        f"{ORIGIN}\n{SIZE}\n",
        f"\n{SIZE}\n{ROOT}\n",
        f"{ORIGIN}\n0{SIZE}\n{ROOT}\n",
        f"{ORIGIN}\n+{SIZE}\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n00\n{ROOT}\n",
        f"{ORIGIN}\n1_0\n{ROOT}\n",
        f"{ORIGIN}\n{SIZE} \n{ROOT}\n",
        f"{ORIGIN}\n٣\n{ROOT}\n",
        f"{ORIGIN}\n{10**19}\n{ROOT}\n",
        f"{ORIGIN}\n{SIZE}\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n{SIZE}\n{ROOT[4:]}\n",
        f"{ORIGIN}\n{SIZE}\n{ROOT.replace('2I=', '2J=')}\n",
        f"{ORIGIN}\n{SIZE}\n{ROOT}\n\nextension\n",
    ],
)
def test_a_malformed_text_is_refused_in_one_line(malformed: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_checkpoint(malformed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"origin": ""}, {"origin": "a\n5"}, {"extensions": ("",)}])
def test_a_text_that_would_be_read_as_another_is_not_made(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(TEXT)._replace(**changes).text()
