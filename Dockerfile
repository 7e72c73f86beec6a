# GossipyKV: one static binary in an empty image.
#
#   docker build -t gossipykv .                            for this machine
#   docker build --platform linux/arm64 -t gossipykv .     with BuildKit, for another
#   buildah build --platform linux/arm64 --build-arg TARGETARCH=arm64 -t gossipykv .
#
# The build stage runs on the building machine and compiles across, so neither architecture is
# emulated. Plain `docker build`, BuildKit and buildah all read this file: no mounts, no here
# documents, no syntax line that a registry would have to answer. The plain builder builds for its
# own machine only; away from amd64 it and buildah are told BUILDPLATFORM=linux/arm64.
#
# RUST_IMAGE may be any Debian with cargo, rustc and gcc. Where no registry of crates is reachable
# it also holds the crates, and CARGO_NET_OFFLINE=true.
# checkov:skip=CKV_DOCKER_7: The base is an argument, whose default names a version; the other is scratch.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG BUILDPLATFORM

FROM --platform=${BUILDPLATFORM:-linux/amd64} ${RUST_IMAGE} AS build
# BuildKit sets it; the plain builder builds for itself.
ARG TARGETARCH
WORKDIR /build

# What the machine lacks to compile for the target.
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) target=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu debian=amd64 ;; \
        arm64) target=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu debian=arm64 ;; \
        *) echo "TARGETARCH must be amd64 or arm64, not $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    name=$(echo "$target" | tr a-z- A-Z_); \
    if [ "$debian" != "$(dpkg --print-architecture)" ]; then \
        { [ -x "/usr/bin/$gnu-gcc" ] && [ -e "/usr/$gnu/lib/libc.a" ]; } || { \
            apt-get update; \
            apt-get install -y --no-install-recommends "gcc-$(echo "$gnu" | tr _ -)" "libc6-dev-$debian-cross"; \
        }; \
        ! command -v rustup >/dev/null || rustup target add "$target"; \
    fi; \
    { \
        echo "export CARGO_BUILD_TARGET=$target"; \
        echo "export CARGO_TARGET_${name}_LINKER=$gnu-gcc CC_$(echo "$target" | tr - _)=$gnu-gcc"; \
        # glibc, whole: no loader, no resolver, no file but the binary.
        echo "export RUSTFLAGS='-C target-feature=+crt-static'"; \
        echo "out=target/$target/release"; \
    } >environment

# The dependencies by themselves: this layer stays as long as these two files do.
COPY Cargo.toml Cargo.lock ./
RUN set -eu; . ./environment; \
    # Benches and tests are not here, so the manifest must not name them.
    awk '/^\[/ { skip = /^\[\[(bench|test|example)\]\]/ } !skip' Cargo.toml >lean && mv lean Cargo.toml; \
    mkdir src && echo 'fn main() {}' >src/main.rs && : >src/lib.rs; \
    cargo build --release --locked; \
    # What came from the empty sources must not pass for the real ones, which are older.
    rm -rf src "$out"/gossipykv* "$out"/libgossipykv* "$out"/deps/*gossipykv* "$out"/.fingerprint/gossipykv-*

COPY build.rs ./
COPY src src
# Known only now, so that another commit does not compile the dependencies again.
ARG BUILD_HASH=unknown
ARG BUILD_DATE=unknown
RUN set -eu; . ./environment; \
    export GOSSIPYKV_BUILD_HASH="$BUILD_HASH" GOSSIPYKV_BUILD_DATE="$BUILD_DATE"; \
    cargo build --release --locked; \
    mkdir /image && cp "$out/gossipykv" /image/

FROM scratch
ARG VERSION=unknown
ARG BUILD_HASH=unknown
ARG BUILD_DATE=unknown
LABEL org.opencontainers.image.title="GossipyKV" \
      org.opencontainers.image.description="A gossip-replicated key-value store: no leader, no quorum, no disk" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${BUILD_HASH}" \
      org.opencontainers.image.created="${BUILD_DATE}"
COPY --from=build /image/gossipykv /gossipykv
ENV GOSSIPYKV_HTTP=0.0.0.0:8080
EXPOSE 8080/tcp 7947/tcp 7947/udp
USER 65532:65532
STOPSIGNAL SIGTERM
# Liveness. Orchestrators have checks of their own; this one is for plain Docker.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/gossipykv", "health"]
ENTRYPOINT ["/gossipykv"]
CMD ["agent"]
