# The server on CPUs:
#
#   docker build -f docker/cpu.Dockerfile -t rocmforge .
#   docker run -p 127.0.0.1:8080:8080 -e ROCMFORGE_API_KEY=... -v models:/models rocmforge
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ cmake ninja-build git \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels /src

FROM ${PYTHON_IMAGE}
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels rocmforge
# A number, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --create-home rocmforge \
    && install -d -o 10001 -g 10001 /models
USER 10001
ENV ROCMFORGE_HOST=0.0.0.0 \
    ROCMFORGE_PORT=8080 \
    ROCMFORGE_MODELS=/models
VOLUME /models
EXPOSE 8080
# Loading may take minutes, so what counts is that the process answers at all.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30m \
    CMD ["python", "-c", "import http.client as c; h = c.HTTPConnection('127.0.0.1', 8080, timeout=4); h.request('GET', '/health'); raise SystemExit(h.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["rocmforge"]
CMD ["serve"]
