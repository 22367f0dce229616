"""The API with one more endpoint, which does nothing.

It shows the most requests that FastAPI can serve on this machine. `python -m benchmarks.baselines.empty_app
DATABASE_URL` serves it with the settings of `turnlog serve` and prints its port.
"""

import socket
import sys

import uvicorn

from api.app import TurnlogApplication, create_app
from api.settings import load_settings
from cli.server import configure


def create_empty_app(database_url: str) -> TurnlogApplication:
    """Return the API with `POST /empty` and `GET /empty` as the first routes."""
    app = create_app(load_settings(database_url=database_url), database_url)
    routes = app.fastapi.router.routes
    for add in (app.fastapi.post, app.fastapi.get):
        add("/empty")(empty)
        routes.insert(0, routes.pop())
    return app


async def empty() -> dict[str, str]:
    """Do nothing."""
    return {}


def main() -> None:
    """Serve until a signal arrives."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"ready at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(configure(create_empty_app(sys.argv[1]))).run(sockets=[listener])


if __name__ == "__main__":
    main()
