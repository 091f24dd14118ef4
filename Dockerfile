# The image of loginsync: one static binary, certificate authorities and a user without rights. Nothing else is in it.
#
#   docker build --build-arg LOGINSYNC_COMMIT="$(git rev-parse HEAD)" -t loginsync .
#
# `.git` is not in the context: the argument is what `loginsync --version` and the label say.
#
# `make image-check` runs these same steps without a container engine; it knows the instructions used here and stops at
# any other.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG LOGINSYNC_COMMIT
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    scripts/static /out/loginsync \
 && mkdir -p /out/state

FROM scratch
ARG LOGINSYNC_COMMIT
LABEL org.opencontainers.image.revision=$LOGINSYNC_COMMIT
COPY scripts/image/ /etc/
# For providers reached over https.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=10001:10001 --chmod=0700 /out/state/ /var/lib/loginsync/
COPY --from=build /out/loginsync /usr/local/bin/loginsync

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/loginsync
VOLUME ["/var/lib/loginsync"]
# The proxy; the admin listener (/healthz /readyz /metrics).
EXPOSE 8080 9901
# loginsync drains on SIGTERM and needs no init above it: it starts no processes.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/loginsync", "health", "--config", "/etc/loginsync/loginsync.toml"]
ENTRYPOINT ["/usr/local/bin/loginsync"]
CMD ["serve", "--config", "/etc/loginsync/loginsync.toml"]
