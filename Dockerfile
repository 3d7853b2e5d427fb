# The workbench on any host. Build, then run with a volume for what is kept:
#   docker build -t wavalign .
#   docker run --init --stop-timeout 60 -p 7860:7860 -v wavalign:/var/lib/wavalign wavalign
FROM python:3.11-slim

# Options for pip, such as an index with CPU builds of torch.
ARG PIP_OPTIONS=""

RUN useradd --create-home --uid 1000 workbench \
    && mkdir -p /var/lib/wavalign \
    && chown workbench:workbench /var/lib/wavalign

WORKDIR /srv/wavalign
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check ${PIP_OPTIONS} -r requirements.txt

COPY app.py README.md LICENSE ./
COPY assets ./assets
COPY wavalign ./wavalign
COPY evaluation ./evaluation
COPY app ./app

# WAVALIGN_CONTAINER: every process ends with the app, so jobs save before and go on after the next start.
ENV WAVALIGN_HOME=/var/lib/wavalign \
    WAVALIGN_LISTEN=0.0.0.0 \
    WAVALIGN_PORT=7860 \
    WAVALIGN_CONTAINER=1 \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER workbench
VOLUME ["/var/lib/wavalign"]
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['WAVALIGN_PORT'] + '/healthz', timeout=4)"]
CMD ["python", "app.py"]
