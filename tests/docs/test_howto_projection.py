"""The changes of docs/howto-projection.md apply to the code and work."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from projections.catalog import PROJECTIONS, install
from tests.support.histories.builders import MODEL, Story
from tests.support.store import PATIENCE_S, opened, rows

ROOT = Path(__file__).parents[2]
PACKAGES = ("commands", "domain", "eventlog", "projections")
REBUILD = """
import asyncio
import sys
from eventlog.db.database import Database
from eventlog.log import Log
from projections.as_of.past_listing import PastListing
from projections.models.listing import Listing
from projections.models.listing_filter import ListingFilter
from projections.rebuild.builder import open_builder
from projections.catalog import find_projection, install
from projections.rebuild.rebuild import rebuild

async def main(conninfo):
    async with open_builder(conninfo, "turnlog", 1, lambda step: None) as builder:
        await rebuild(builder, [find_projection("listing")])
    database = Database(conninfo)
    await database.open()
    end = await Log(database).head()
    readers = Listing(database), PastListing(database, end)
    now, then = [await each.page("alice", ListingFilter(), None, 100) for each in readers]
    await database.close()
    assert now == then, (now, then)

if __name__ == "__main__":
    install(sys.argv[1])
    asyncio.run(main(sys.argv[1]))
"""


def changed_copy(folder: Path) -> Path:
    """Copy the code, apply the page's changes, and return a rebuild script."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)
    page = (ROOT / "docs" / "howto-projection.md").read_text()
    patch = "".join(re.findall(r"```diff\n(.*?)```", page, re.DOTALL))
    applied = subprocess.run(
        ["git", "apply", "--unsafe-paths", f"--directory={folder}", "-"],
        input=patch,
        text=True,
        capture_output=True,
        check=False,
        cwd=folder,
    )
    assert applied.returncode == 0, applied.stderr
    script = folder / "rebuild_listing.py"
    script.write_text(REBUILD)
    return script


def run(script: Path, conninfo: str) -> None:
    done = subprocess.run(
        [sys.executable, script, conninfo], cwd=script.parent, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def test_the_changes_of_the_page_rebuild_the_listing_from_version_3_to_4(
    database_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(install, database_url)
    story, silent = Story(title="Talk"), Story(title="Silence")
    async with opened(database_url) as store, store.projecting(*PROJECTIONS) as progress:
        events = [*story.events, *story.ask("Why?"), *story.complete("Because."), *silent.events]
        assert await progress.wait(await store.append(events), PATIENCE_S) == []
        await asyncio.to_thread(run, changed_copy(tmp_path), database_url)
    listing = "SELECT title, last_model FROM listing ORDER BY title"
    assert rows(database_url, listing) == [("Silence", None), ("Talk", MODEL)]
    builds = "SELECT version, state FROM projections WHERE name = 'listing' ORDER BY version"
    assert rows(database_url, builds) == [(3, "live"), (4, "live")]
