# The package in a container. DEVICE is cpu, cuda or tpu. We have not built this image.
#
#   docker build --build-arg DEVICE=cuda --tag beta_darts_jax .
#   docker run --rm --gpus all --volume "$PWD/runs:/searches/runs" beta_darts_jax search --config digits
FROM python:3.12-slim
ARG DEVICE=cpu
WORKDIR /source
COPY LICENSE README.md pyproject.toml requirements.txt ./
COPY beta_darts_jax beta_darts_jax
COPY configs configs
RUN case "$DEVICE" in \
      cpu) extras=report,export ;; \
      cuda | tpu) extras="report,export,$DEVICE" ;; \
      *) echo "DEVICE=$DEVICE: expected cpu, cuda or tpu" >&2; exit 1 ;; \
    esac && \
    pip install --no-cache-dir ".[$extras]"
WORKDIR /searches
ENTRYPOINT ["beta-darts"]
