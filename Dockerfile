# Images in which every stage of the pipeline can run: `make images`, or by hand
#
#   docker build --target cpu  -t embrepro:cpu  .
#   docker build --target cuda -t embrepro:cuda .
#
# The base is pinned by digest (Python 3.11.16 on Debian 12). A site may name its own: any Debian-like image with
# Python 3.11 and its venv module. CUDA's libraries come from the hashed lock, so one base serves both targets; the
# host adds its driver.
ARG BASE=python:3.11-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84


# What builds. Nothing of it is shipped but the two folders that the last stages copy: a site's pip configuration,
# certificates and wheels (scripts/images.py lays them into .cache/site) come no further than here.
FROM ${BASE} AS build
# The bracket makes the folder optional: COPY takes a pattern that matches nothing if another source is there.
COPY LICENSE .cache/sit[e] /site/
ENV PIP_CONFIG_FILE=/site/pip.conf PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
WORKDIR /build
COPY scripts/make-env scripts/pip_settings.py scripts/
COPY pyproject.toml ./
COPY requirements requirements/

FROM build AS packages-cpu
RUN scripts/make-env --for-image cpu /opt/venv

# The kit by itself, so that a change of its code adds one small layer. Its commands start with /opt/venv/bin/python.
FROM build AS kit
RUN "$(scripts/make-env --which-python)" -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install -qq --no-deps --require-hashes -r requirements/build.lock
COPY LICENSE setup.py dvc.yaml ./
COPY conf conf/
COPY src src/
RUN /opt/venv/bin/python -m pip install -qq --no-deps --no-build-isolation --target /opt/kit . \
    && chmod -R a+rX /opt/kit


# What runs. No home and no password entry are needed: any user may be given (`--user`), and only /tmp must be writable.
FROM ${BASE} AS runtime
ENV PATH=/opt/venv/bin:/opt/kit/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/kit PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 HOME=/tmp USER=embrepro LOGNAME=embrepro
WORKDIR /project
HEALTHCHECK --interval=5m --timeout=60s CMD ["embrepro", "--version"]
CMD ["embrepro", "--help"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
COPY requirements/cpu.lock /opt/requirements.lock
COPY --from=kit /opt/kit /opt/kit
ARG BASE
ARG COMMIT=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="embrepro" \
      org.opencontainers.image.description="Reproducible evaluation of text-embedding models, on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE}" \
      embrepro.device="cpu" \
      embrepro.lock.sha256="${LOCK_SHA256}"
USER 10001:10001

# Last, because an engine without BuildKit builds every stage above the one that it is asked for.
FROM build AS packages-cuda
RUN scripts/make-env --for-image cuda /opt/venv

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-cuda /opt/venv /opt/venv
COPY requirements/cuda.lock /opt/requirements.lock
COPY --from=kit /opt/kit /opt/kit
ARG BASE
ARG COMMIT=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="embrepro" \
      org.opencontainers.image.description="Reproducible evaluation of text-embedding models, on an NVIDIA GPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.base.name="${BASE}" \
      embrepro.device="cuda" \
      embrepro.lock.sha256="${LOCK_SHA256}"
USER 10001:10001
