# Every command of `outbox` that works on servers elsewhere: workers, relay, console, migrations.
# It runs as it is in a container whose files can't be written, but for /tmp.

# By digest, so that it is the same today and tomorrow. Another one: --build-arg PYTHON=…
ARG PYTHON=python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/outbox
COPY pyproject.toml README.md LICENSE ./
COPY outbox ./outbox
COPY consumers ./consumers
COPY migrations ./migrations
RUN /opt/outbox/bin/pip install --no-cache-dir --disable-pip-version-check '.[kafka,console]'

FROM ${PYTHON}
LABEL org.opencontainers.image.title="agent-schedule-outbox" \
      org.opencontainers.image.description="An outbox that keeps Postgres, SpiceDB and Temporal agreed about agent schedules" \
      org.opencontainers.image.licenses="Apache-2.0"
# With a name: libpq asks for it, and what operators do is written down by it.
RUN groupadd --gid 10001 outbox && useradd --uid 10001 --gid outbox --no-create-home outbox
COPY --from=build /opt/outbox /opt/outbox
ENV PATH=/opt/outbox/bin:$PATH
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
# In exec form: the worker is process 1, and gets SIGTERM itself.
ENTRYPOINT ["outbox"]
CMD ["run"]
