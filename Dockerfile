# A worker, and every other command of `outbox` that works on servers elsewhere.
# Not built or run by the project's tests, which have no Docker engine.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY outbox ./outbox
COPY consumers ./consumers
COPY migrations ./migrations
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels '.[worker,kafka]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --create-home outbox
# Everything was fetched or built in the stage before; nothing is fetched here.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels 'agent-schedule-outbox[worker,kafka]'
USER outbox
WORKDIR /home/outbox
# In exec form: the worker is process 1, and gets SIGTERM itself.
ENTRYPOINT ["outbox"]
CMD ["run"]
