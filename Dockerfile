# syntax=docker/dockerfile:1
# The bridge as a small image without a shell, run by a user without rights.
#
#   docker build -t nexudus-bridge .
#   docker run --rm -p 127.0.0.1:8080:8080 -e NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS='["…"]' \
#     -e NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS=kafka:9092 nexudus-bridge
#
# librdkafka and OpenSSL are compiled in, so the last stage needs a C library and certificates only. For builds that
# must not change under you, append the digests of both base images (`@sha256:…`).
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS builder
WORKDIR /build

# The dependencies first, with empty sources in the place of ours: this layer is built again only when they change.
# Most of the time goes into it, and most of that into librdkafka and OpenSSL. Cargo wants the benchmarks that
# Cargo.toml names to be there; they are not built.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked

COPY src src
# Cargo judges by times, and ours may be older than the empty ones. Line numbers, most of the file, stay behind; the
# names of functions stay in, for backtraces.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --bin nexudus-bridge \
    && strip --strip-debug target/release/nexudus-bridge

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nexudus-bridge" \
      org.opencontainers.image.description="Receives Nexudus webhooks and publishes every event to Kafka, answering 2xx only once the broker has confirmed it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

COPY --from=builder /build/target/release/nexudus-bridge /usr/local/bin/nexudus-bridge
COPY LICENSE /usr/share/doc/nexudus-bridge/LICENSE

# The image's own user, by number, so that Kubernetes can see that it is not root.
USER 65532:65532
# A configuration file is looked for at /etc/nexudus-bridge/nexudus-bridge.toml; without one, the environment is enough.
WORKDIR /etc/nexudus-bridge

# 8080: deliveries. 9464: metrics and readiness, on loopback unless NEXUDUS_BRIDGE__ADMIN__LISTEN says otherwise.
EXPOSE 8080 9464

HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/nexudus-bridge", "health"]

ENTRYPOINT ["/usr/local/bin/nexudus-bridge"]
CMD ["serve"]
