"""The service's own migrations. The outbox's are beside them, in its own schema: ``outbox migrate``."""

import os
import sys
from pathlib import Path

from alembic import context
from sqlalchemy import NullPool, create_engine, make_url

sys.path.insert(0, str(Path(__file__).parents[1]))

from service.tables import Base

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
engine = create_engine(url, poolclass=NullPool)
with engine.begin() as connection:
    # Of the default schema alone, so `alembic check` takes the outbox's tables for nobody's.
    context.configure(connection=connection, target_metadata=Base.metadata)
    context.run_migrations()
