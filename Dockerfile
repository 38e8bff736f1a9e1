# Serves one model on port 8350: `docker build -t kg-serve .`, then
# `docker run --rm -p 8350:8350 kg-serve` for the model that ships, or
# `docker run --rm -p 8350:8350 -v "$PWD/runs/mine:/model:ro" kg-serve /model` for a run of yours.
FROM python:3.12-slim

# By default torch's build for CUDA. Its builds for CPUs are ten times smaller, those for
# other versions of CUDA lie beside them: --build-arg TORCH_INDEX= the address of their index.
ARG TORCH_INDEX
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /src
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==2.13.0"
COPY . .
RUN pip install -c constraints.txt . && rm -rf /src/*

# Nothing here needs to be root; numba keeps what it compiled in the home folder.
RUN useradd --create-home --uid 1000 kg
USER kg
WORKDIR /home/kg
ENV NUMBA_CACHE_DIR=/home/kg/.cache/numba

EXPOSE 8350
HEALTHCHECK --start-period=30s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8350/health')"]
ENTRYPOINT ["dglke-distill", "serve", "--host", "0.0.0.0", "--port", "8350"]
CMD ["complex-cldr-dim32"]
