"""The service: what it is connected to, and who asks."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from authzed.api.v1 import AsyncClient
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Request
from grpcutil import insecure_bearer_token_credentials
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from temporalio.client import Client

from service import problems


@dataclass(frozen=True)
class Backends:
    """What the routes talk to."""

    engine: AsyncEngine
    spicedb: AsyncClient
    temporal: Client


def _backends(request: Request) -> Backends:
    backends: Backends = request.app.state.backends
    return backends


def _user(
    x_user: Annotated[str, Header(pattern="^[a-z0-9-]{1,100}$", description="as a gateway has found out")],
) -> str:
    return x_user


Backend = Annotated[Backends, Depends(_backends)]
User = Annotated[str, Depends(_user)]
AgentId = Annotated[str, Path(pattern="^[A-Za-z0-9_|/=+-]{1,128}$")]
Name = Annotated[str, Path(pattern="^[a-z0-9-]{1,64}$")]


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    # In plaintext, as the embedded stack speaks: elsewhere `bearer_token_credentials`.
    credentials = insecure_bearer_token_credentials(os.environ["OUTBOX_SPICEDB_TOKEN"])
    engine = create_async_engine(url)
    app.state.backends = Backends(
        engine=engine,
        spicedb=AsyncClient(os.environ["OUTBOX_SPICEDB_ENDPOINT"], credentials),
        temporal=await Client.connect(os.environ["OUTBOX_TEMPORAL_ADDRESS"], lazy=True),
    )
    yield
    await engine.dispose()


def make_app(*routers: APIRouter) -> FastAPI:
    """An app with these routes."""
    app = FastAPI(title="Schedules", lifespan=_connected)
    for router in routers:
        app.include_router(router)
    problems.handle(app)
    return app
