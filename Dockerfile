# Not built here: linted by hadolint only. The library and its command, on a CPU.
#   docker build -t aiwae .
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" aiwae fit mine.csv --folder=runs/mine
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/aiwae && /opt/aiwae/bin/pip install --no-cache-dir '.[run,tables]'

FROM python:3.13-slim
COPY --from=build /opt/aiwae /opt/aiwae
# Whoever runs it has no home there, and what is cached goes with the container.
ENV PATH=/opt/aiwae/bin:$PATH HOME=/tmp
WORKDIR /data
ENTRYPOINT ["aiwae"]
CMD ["--help"]
