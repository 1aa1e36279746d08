# Three images from one file: `docker build --target train .`, `--target serve`, and `--target serve-slim`,
# which has no TensorFlow. The first two for NVIDIA's GPUs with `--build-arg GPU=1`.
FROM python:3.11-slim AS base
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
COPY requirements-train.txt requirements-gpu.txt ./
RUN if [ -n "$GPU" ]; then pip install --no-cache-dir -r requirements-gpu.txt; fi

FROM base AS train
RUN pip install --no-cache-dir -r requirements-train.txt
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
COPY requirements-serve-slim.txt .
RUN pip install --no-cache-dir -r requirements-serve-slim.txt

FROM serve-base AS serve-slim
COPY app app
RUN chmod -R a+rX app
USER unroll

FROM serve-base AS serve
COPY requirements-serve.txt .
RUN pip install --no-cache-dir -r requirements-serve.txt
COPY app app
RUN chmod -R a+rX app
USER unroll
