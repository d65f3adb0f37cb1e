FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/vapi-cache
COPY pyproject.toml README.md LICENSE ./
COPY service ./service
COPY deploy/RUNBOOK.md ./deploy/RUNBOOK.md
RUN /opt/vapi-cache/bin/python -m pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.13-slim
# By number as well, so that orchestrators which want a non-root user can see that it is one.
RUN groupadd --gid 10001 vapi-cache \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vapi-cache \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/vapi-cache/spool
COPY --from=build /opt/vapi-cache /opt/vapi-cache
ENV PATH=/opt/vapi-cache/bin:$PATH \
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
CMD ["python", "-m", "service"]
