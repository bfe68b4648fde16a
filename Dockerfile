# The bridge as one static program in an image that has nothing else to run, no shell either; for a user without rights.
#
#   docker build -t nexudus-bridge .
#   docker run --rm --read-only -p 127.0.0.1:8080:8080 -e NEXUDUS_BRIDGE__SOURCES__DEFAULT__SECRETS='["…"]' \
#     -e NEXUDUS_BRIDGE__KAFKA__BOOTSTRAP_SERVERS=kafka:9092 nexudus-bridge
#
# Builds for the machine's own architecture (x86_64; arm64 in the same way, `--platform linux/arm64`, which nobody has
# tried). For builds that must not change under you, append the digests of both base images (`@sha256:…`).
#
# Size: 29 MB the program, about 2 MiB the base (its README at github.com/GoogleContainerTools/distroless): 31 MB. Compressed,
# the program has 11 MB.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS builder
WORKDIR /build

# All that the program needs is linked into it, the C library too: musl's, since glibc's cannot do without its shared
# parts (it looks up names with them). The allocator is jemalloc either way, and it is as fast (docs/deployment.md).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
# librdkafka's own build asks for nothing else; else it would be compiled for glibc.
ENV CC=musl-gcc

# The dependencies first, with empty sources in the place of ours: this layer is built again only when they change.
# Most of the time goes into it, and most of that into librdkafka and OpenSSL. Cargo wants the benchmarks that
# Cargo.toml names to be there; they are not built.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
# Cargo also reads the manifest of the workspace's other member, which is not built.
COPY tests/double/Cargo.toml tests/double/
RUN mkdir src tests/double/src \
    && touch src/lib.rs tests/double/src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl"

COPY src src
# The commit, for `nexudus-bridge -V`: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=unknown
# Cargo compares times, and these files may be older than the empty ones.
RUN touch src/lib.rs src/main.rs \
    && NEXUDUS_BRIDGE_COMMIT="$REVISION" cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin nexudus-bridge \
    && cp target/*-linux-musl/release/nexudus-bridge . \
    && ./nexudus-bridge man man

# Certificates of the public authorities, /etc/passwd, time zones, /tmp, and no libraries.
FROM gcr.io/distroless/static-debian13:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nexudus-bridge" \
      org.opencontainers.image.description="Receives Nexudus webhooks and publishes every event to Kafka, answering 2xx only once the broker has confirmed it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian13:nonroot"

COPY --from=builder /build/nexudus-bridge /usr/local/bin/nexudus-bridge
COPY --from=builder /build/man /usr/share/man/man1
COPY LICENSE /usr/share/doc/nexudus-bridge/LICENSE

# The image's own user, by number, so that Kubernetes can see that it is not root. Nothing is written: --read-only is fine.
USER 65532:65532
# A configuration file is looked for at /etc/nexudus-bridge/nexudus-bridge.toml; without one, the environment is enough.
WORKDIR /etc/nexudus-bridge

# 8080: deliveries. 9464: metrics and readiness, on loopback unless NEXUDUS_BRIDGE__ADMIN__LISTEN says otherwise.
EXPOSE 8080 9464

HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/nexudus-bridge", "health"]

ENTRYPOINT ["/usr/local/bin/nexudus-bridge"]
CMD ["serve"]
