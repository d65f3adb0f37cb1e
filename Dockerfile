# Tag and digest of one image index, as Docker's record of official images gives them (docker-library/repo-info).
FROM python:3.13.14-slim-trixie@sha256:9662417aace5ae7b8e2609cce472b72a8958e134ba372808abe9cc1a0c0125e6 AS base

FROM base AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# Only wheels: to build a package would fetch what builds it, and no hash would hold that.
RUN python -m venv --without-pip /opt/vapi-cache \
 && python -m pip --python /opt/vapi-cache/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --require-hashes --requirement requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY service ./service
COPY deploy/RUNBOOK.md ./deploy/RUNBOOK.md
RUN /opt/build/bin/python -m hatchling build --target wheel --directory dist \
 && python -m pip --python /opt/vapi-cache/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-index --no-deps dist/*.whl \
 && python -m pip --python /opt/vapi-cache/bin/python check

FROM base
LABEL org.opencontainers.image.title="vapi-cache" \
      org.opencontainers.image.description="VAPI call results for Kestra" \
      org.opencontainers.image.licenses="MIT"
# By number as well, so that orchestrators which want a non-root user can see that it is one.
RUN groupadd --gid 10001 vapi-cache \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vapi-cache \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/vapi-cache/spool
COPY --from=build /opt/vapi-cache /opt/vapi-cache
ENV PATH=/opt/vapi-cache/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000
# SPOOL_DIR stays unset: what is spooled counts as acknowledged, so it must be set together with a volume
# that outlives the container, as deploy/compose.yaml does.
VOLUME /var/lib/vapi-cache/spool
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Liveness, not readiness: an outage of Redis is no reason to restart the service.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=2); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["vapi-cache"]
