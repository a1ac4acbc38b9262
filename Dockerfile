# check=skip=ReservedStageName
# (the image is called what it is: scratch)
#
# Four images: docker build --target slim|alpine|scratch|minimal .     (scratch, where none is named)
#
#   slim      the ordinary Python image and wheels: a shell, pip, a debugger if you want one
#   alpine    Alpine and the static executable: a shell and a package manager
#   scratch   the static executable and nothing else
#   minimal   the same without TLS, WebSocket and metrics
#
# What is in the executable, and how it is made: docker/README.md. Machines without python.org or openssl.org put the two
# archives into docker/sources.

ARG PYTHON_VERSION=3.13.15
ARG SLIM_IMAGE=python:${PYTHON_VERSION}-slim-trixie
ARG ALPINE_IMAGE=alpine:3.23
ARG BUILD_IMAGE=debian:trixie-slim
ARG VERSION=0.1.0


# --- the static executable -----------------------------------------------------------------------------------------

FROM ${BUILD_IMAGE} AS toolchain
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
      gcc libc6-dev make musl-tools perl python3 python3-pip wrk xz-utils zlib1g-dev zopfli >/dev/null \
 && rm -rf /var/lib/apt/lists/*
COPY docker/common.sh docker/toolchain.sh docker/fetch.sh /src/docker/
RUN /src/docker/toolchain.sh

FROM toolchain AS static
ARG PYTHON_VERSION
ARG PYTHON_SHA256=1e66a7945a48390ee4c2a4268a0e4185884059a13c4aab6d148aa208deea4a76
ARG OPENSSL_VERSION=3.5.7
ARG OPENSSL_SHA256=a8c0d28a529ca480f9f36cf5792e2cd21984552a3c8e4aa11a24aa31aeac98e8
COPY docker/sources /src/docker/sources
RUN /src/docker/fetch.sh Python-${PYTHON_VERSION}.tar.xz ${PYTHON_SHA256} \
      https://www.python.org/ftp/python/${PYTHON_VERSION}/Python-${PYTHON_VERSION}.tar.xz \
 && /src/docker/fetch.sh openssl-${OPENSSL_VERSION}.tar.gz ${OPENSSL_SHA256} \
      https://github.com/openssl/openssl/releases/download/openssl-${OPENSSL_VERSION}/openssl-${OPENSSL_VERSION}.tar.gz
COPY docker/requirements.txt docker/build-requirements.txt /src/docker/
RUN python3 -m pip install -q --target /src/tools --require-hashes -r /src/docker/build-requirements.txt \
 && PYTHONPATH=/src/tools python3 -m pip download -q --no-deps --no-binary uvloop,httptools,websockets --no-build-isolation \
      --require-hashes -r /src/docker/requirements.txt -d /sources
COPY docker/openssl.sh /src/docker/
RUN /src/docker/openssl.sh
COPY docker/tools.sh docker/Setup.local docker/main.c docker/modules.h /src/docker/
COPY echoserver/compiled.c /src/echoserver/
COPY echoserver/protocols/udp.c /src/echoserver/protocols/
COPY echoserver/wire/hpack.c echoserver/wire/huffman.c echoserver/wire/ordinary.c /src/echoserver/wire/
RUN /src/docker/tools.sh
# PGO=off: no training, and a few minutes less to build. SOURCE_DATE_EPOCH: the time that files are given.
ARG PGO=on
ARG SOURCE_DATE_EPOCH=315532800
COPY docker/python.sh /src/docker/
RUN /src/docker/python.sh
COPY echoserver /src/echoserver
COPY docker/train.* docker/trace.py docker/modules.sh docker/freeze.py docker/executable.sh docker/tables.c /src/docker/
COPY docker/stand_ins /src/docker/stand_ins
COPY bench/__init__.py bench/arms.py bench/clients.py bench/figures.py bench/handshakes.py bench/http2.py bench/loads.py \
     bench/pools.py bench/running.py /src/bench/
COPY bench/load /src/bench/load
COPY bench/native /src/bench/native
RUN /src/docker/train.sh
RUN /src/docker/modules.sh scratch && /src/docker/modules.sh minimal

FROM static AS static-scratch
RUN /src/docker/executable.sh scratch echoserver /image

FROM static AS static-minimal
RUN /src/docker/executable.sh minimal echoserver /image

# not images to run, but what else can be had of the build:
# the profile, for docker/sources
FROM scratch AS profile
COPY --from=static /build/profile /

# what the executables' bytes are
FROM static-scratch AS parts-scratch
COPY docker/parts.* /src/docker/
RUN /src/docker/parts.sh scratch /parts
FROM static-minimal AS parts-minimal
COPY docker/parts.* /src/docker/
RUN /src/docker/parts.sh minimal /parts
FROM scratch AS parts
COPY --from=parts-scratch /parts /
COPY --from=parts-minimal /parts /

# the scratch image's modules as a Python: tests
FROM static AS static-console
RUN /src/docker/executable.sh scratch console /image
FROM scratch AS console
COPY --from=static-console /image/console /console
ENTRYPOINT ["/console"]


# --- the images ----------------------------------------------------------------------------------------------------

FROM ${SLIM_IMAGE} AS wheels
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils gcc libc6-dev >/dev/null && rm -rf /var/lib/apt/lists/*
COPY docker/requirements.txt docker/build-requirements.txt /src/docker/
RUN pip install -q --no-cache-dir --only-binary :all: --require-hashes -r /src/docker/build-requirements.txt \
 && pip install -q --no-cache-dir --no-compile --prefix=/install --only-binary :all: --require-hashes \
      -r /src/docker/requirements.txt
COPY hatch_build.py pyproject.toml README.md LICENSE /src/
COPY echoserver /src/echoserver
ARG SOURCE_DATE_EPOCH=315532800
RUN pip install -q --no-cache-dir --no-compile --prefix=/install --no-deps --no-build-isolation /src \
 && find /install -name '*.so' -exec strip --strip-unneeded {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /install \
 && find /install -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +

FROM ${SLIM_IMAGE} AS slim
ARG SERVER_PORT=8080
ARG VERSION
COPY --from=wheels /install /usr/local
ENV ECHOSERVER_HOST=0.0.0.0 PORT=${SERVER_PORT}
EXPOSE ${SERVER_PORT} 8007 8007/udp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["echoserver", "healthcheck"]
ENTRYPOINT ["echoserver"]
LABEL org.opencontainers.image.title="echoserver" \
      org.opencontainers.image.description="Echo server for TCP, UDP, HTTP/1.1 and WebSocket; ordinary Python" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.licenses="MIT"

FROM ${ALPINE_IMAGE} AS alpine
ARG SERVER_PORT=8080
ARG VERSION
COPY --from=static-scratch /image/echoserver /usr/local/bin/echoserver
ENV ECHOSERVER_HOST=0.0.0.0 PORT=${SERVER_PORT}
EXPOSE ${SERVER_PORT} 8007 8007/udp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["echoserver", "healthcheck"]
ENTRYPOINT ["echoserver"]
LABEL org.opencontainers.image.title="echoserver" \
      org.opencontainers.image.description="Echo server for TCP, UDP, HTTP/1.1 and WebSocket; one static executable" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.licenses="MIT AND Apache-2.0 AND BSD-3-Clause AND PSF-2.0 AND Zlib"

FROM scratch AS static-image
ARG SERVER_PORT=8080
ARG VERSION
ENV ECHOSERVER_HOST=0.0.0.0 PORT=${SERVER_PORT}
EXPOSE ${SERVER_PORT} 8007 8007/udp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/echoserver", "healthcheck"]
ENTRYPOINT ["/echoserver"]
LABEL org.opencontainers.image.title="echoserver" \
      org.opencontainers.image.description="Echo server for TCP, UDP and HTTP/1.1; one static executable" \
      org.opencontainers.image.version="${VERSION}" org.opencontainers.image.licenses="MIT AND Apache-2.0 AND PSF-2.0 AND Zlib"

FROM static-image AS minimal
COPY --from=static-minimal /image/echoserver /echoserver

FROM static-image AS scratch
COPY --from=static-scratch /image/echoserver /echoserver
LABEL org.opencontainers.image.description="Echo server for TCP, UDP, HTTP/1.1 and WebSocket; one static executable" \
      org.opencontainers.image.licenses="MIT AND Apache-2.0 AND BSD-3-Clause AND PSF-2.0 AND Zlib"
