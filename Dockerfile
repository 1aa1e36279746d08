# Three images from one file: `docker build --target train .`, `--target serve`, and `--target serve-slim`,
# which has no TensorFlow. The first two for NVIDIA's GPUs with `--build-arg GPU=1`.
# The tag says what the digest is, of the images for all architectures. Every package has its hash in locks/,
# which `make lock` writes.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    # Libraries that want a place for caches get one that may be a tmpfs.
    HOME=/tmp KERAS_HOME=/tmp/keras MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --uid 10001 --no-create-home unroll \
 && mkdir -p /unroll/models && chown unroll /unroll/models
WORKDIR /unroll
VOLUME /unroll/models
# One layer of 6 GiB, TensorFlow and CUDA's libraries, that images for GPUs share. Of the driver, a container
# is given what computes and nvidia-smi.
ARG GPU=
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY locks locks
RUN if [ -n "$GPU" ]; then pip install --no-cache-dir --require-hashes -r locks/gpu.txt; fi

FROM base AS train
RUN pip install --no-cache-dir --require-hashes -r locks/train.txt
COPY data data
COPY model model
# A clone made under a strict umask is readable to its owner only.
RUN chmod -R a+rX data model
USER unroll
CMD ["python", "-m", "model.train", "--only-if-missing"]

FROM base AS serve-base
ENV UNROLL_HOST=0.0.0.0 UNROLL_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['UNROLL_PORT']), timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app"]
RUN pip install --no-cache-dir --require-hashes -r locks/serve-slim.txt

FROM serve-base AS serve-slim
COPY app app
RUN chmod -R a+rX app
USER unroll

FROM serve-base AS serve
RUN pip install --no-cache-dir --require-hashes -r locks/serve.txt
COPY app app
RUN chmod -R a+rX app
USER unroll
