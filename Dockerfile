# emotune with the model of the package, on the CPU and without PyTorch: a server, or any other command.
#
#   docker build -t emotune .
#   docker run --rm -p 127.0.0.1:8000:8000 emotune
#   docker run --rm emotune predict "you absolute legend!"
#   docker run --rm -v "$PWD:/work" emotune predict --input comments.csv --output predicted.csv
#
# compose.yaml runs the server with Prometheus and Grafana.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv --without-pip /opt/emotune \
    && pip --python /opt/emotune/bin/python install --no-cache-dir --disable-pip-version-check \
        -c constraints.txt '.[serve]'

FROM python:3.13-slim-trixie
RUN useradd --create-home --uid 1000 emotune && install -d -o emotune -g emotune /work
COPY --from=build /opt/emotune /opt/emotune
ENV PATH=/opt/emotune/bin:$PATH
USER emotune
WORKDIR /work
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["emotune"]
CMD ["serve", "default", "--host", "0.0.0.0"]
