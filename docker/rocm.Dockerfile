# The server on AMD GPUs, with kernels for the targets below:
#
#   docker build -f docker/rocm.Dockerfile -t rocmforge:rocm --build-arg GPU_TARGETS="gfx1100;gfx942" .
#   docker run --device /dev/kfd --device /dev/dri --group-add video --group-add render \
#       -p 127.0.0.1:8080:8080 -e ROCMFORGE_API_KEY=... -v models:/models rocmforge:rocm
#
# The image of the last stage only has to have libamdhip64; the kernels are compiled by clang.
ARG ROCM_IMAGE=rocm/dev-ubuntu-24.04:6.4

FROM ubuntu:24.04 AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ cmake \
       ninja-build git clang-19 lld-19 llvm-19 \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
ARG GPU_TARGETS=all
RUN python3 -m venv /build \
    && /build/bin/pip wheel --no-cache-dir --wheel-dir /wheels \
       -C cmake.define.ROCMFORGE_GPU_TARGETS="${GPU_TARGETS}" /src

FROM ${ROCM_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python3 -m venv /opt/rocmforge \
    && /opt/rocmforge/bin/pip install --no-cache-dir --no-index --find-links /wheels rocmforge
RUN useradd --uid 10001 --create-home rocmforge \
    && install -d -o 10001 -g 10001 /models
USER 10001
ENV PATH=/opt/rocmforge/bin:$PATH \
    ROCMFORGE_HOST=0.0.0.0 \
    ROCMFORGE_PORT=8080 \
    ROCMFORGE_MODELS=/models
VOLUME /models
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=30m \
    CMD ["/opt/rocmforge/bin/python", "-c", "import http.client as c; h = c.HTTPConnection('127.0.0.1', 8080, timeout=4); h.request('GET', '/health'); raise SystemExit(h.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["rocmforge"]
CMD ["serve"]
