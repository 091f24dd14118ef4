# The image of loginsync: one binary, the libraries that it loads, a user without rights.
#
#   docker build -t loginsync .
#
# `make image-check` runs these same steps without a container engine; it knows the instructions used here and stops at
# any other.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential pkg-config libclang-dev libxmlsec1-dev libxmlsec1-openssl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin loginsync \
 && install -D target/release/loginsync /out/loginsync

FROM debian:bookworm-slim
# libxmlsec1-openssl brings libxmlsec1, libxml2 and libxslt; ca-certificates is for providers reached over https.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libxmlsec1-openssl libssl3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old \
 && groupadd --gid 10001 loginsync \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/loginsync --shell /usr/sbin/nologin loginsync \
 && install -d -o loginsync -g loginsync -m 0700 /var/lib/loginsync
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
