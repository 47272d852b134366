# One image for every service of ours: migrate, orchestrator, dashboard, worker.
#
#   docker build -t nkat-search .
#   docker build --build-arg PYTHON_IMAGE=python:3.12-slim --build-arg TORCH_VERSION=2.14.1 -t nkat-search .
#   docker build --build-context wheels=/folder/of/wheels -t nkat-search .     # use wheels you have
#
# The result holds no compiler.  Triton wants one at run time for a single C file (its driver
# glue), so that file is compiled here and handed to it by deploy/image/prebuilt-cc.
ARG PYTHON_IMAGE=python:3.11-slim

# Wheels from a local folder come first when one is given as a build context of this name.
FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS builder
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev \
 && if ! python3 -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")'; then \
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-dev; fi \
 && rm -rf /var/lib/apt/lists/*

# Empty means: what constraints.txt pins.  A version given here wins over it.
ARG TORCH_VERSION=
ARG TORCHVISION_VERSION=
ARG OPTUNA_VERSION=
ARG OPTUNA_DASHBOARD_VERSION=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /build
COPY pyproject.toml constraints.txt deploy/image/requirements.py ./
# Dependencies stand in a layer of their own: a change of our code copies a few hundred kB.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=pip_conf,target=/root/.config/pip/pip.conf \
    python3 -m venv --without-pip /opt/nkat \
 && python3 requirements.py pyproject.toml constraints.txt \
      "torch=${TORCH_VERSION}" "torchvision=${TORCHVISION_VERSION}" \
      "optuna=${OPTUNA_VERSION}" "optuna-dashboard=${OPTUNA_DASHBOARD_VERSION}" \
 && python3 -m pip --python /opt/nkat/bin/python install --no-warn-script-location \
      --find-links /wheels -r requirements.txt -c pins.txt

COPY deploy/image/prebuilt_driver.py deploy/image/prebuilt-cc ./
RUN /opt/nkat/bin/python prebuilt_driver.py /opt/nkat/lib/prebuilt \
 && install -m 755 prebuilt-cc /opt/nkat/bin/prebuilt-cc

FROM builder AS ours
COPY nkat_errors.py LICENSE README.md ./
COPY configs ./configs
COPY model ./model
COPY storage ./storage
COPY search ./search
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/root/.config/pip/pip.conf \
    python3 -m pip wheel --no-deps --wheel-dir /dist . \
 && python3 -m pip --python /opt/nkat/bin/python install --no-deps --no-warn-script-location \
      --target /ours /dist/*.whl

FROM ${PYTHON_IMAGE}
# Group 0 with the owner's rights: any user id may run this image (compose sets yours, so that
# exported files belong to you).
RUN mkdir -p /app /data /out /var/lib/nkat/checkpoints /var/cache/nkat \
 && chgrp -R 0 /data /out /var/lib/nkat /var/cache/nkat \
 && chmod -R g=u /data /out /var/lib/nkat /var/cache/nkat
COPY --from=builder /opt/nkat /opt/nkat
COPY --from=ours /ours /opt/nkat/ours
COPY configs /app/configs
ARG PYTHON_IMAGE
ARG NKAT_REVISION=unknown
LABEL org.opencontainers.image.title="nkat-search" \
      org.opencontainers.image.description="Distributed two-stage search for a small Vision Transformer" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${NKAT_REVISION}"
# TZ: Optuna stores naive local times, so every container must agree on one zone.
ENV PATH=/opt/nkat/ours/bin:/opt/nkat/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/nkat/ours \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TZ=UTC HOME=/tmp \
    XDG_CACHE_HOME=/var/cache/nkat TRITON_CACHE_DIR=/var/cache/nkat/triton \
    CC=/opt/nkat/bin/prebuilt-cc \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NKAT_DATA_DIR=/data \
    NKAT_CHECKPOINT_DIR=/var/lib/nkat/checkpoints \
    NKAT_REVISION=${NKAT_REVISION}
WORKDIR /app
USER 10001:0
CMD ["nkat-search", "--help"]
