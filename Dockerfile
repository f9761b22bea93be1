# emotune for predictions: the base install with the model of the package, on the CPU, without PyTorch.
#
#   docker build -t emotune .
#   docker run --rm emotune predict "you absolute legend!"
#   docker run --rm -v "$PWD:/work" emotune predict --input comments.csv --output predicted.csv

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv --without-pip /opt/emotune \
    && pip --python /opt/emotune/bin/python install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.13-slim
RUN useradd --create-home --uid 1000 emotune && install -d -o emotune -g emotune /work
COPY --from=build /opt/emotune /opt/emotune
ENV PATH=/opt/emotune/bin:$PATH
USER emotune
WORKDIR /work
ENTRYPOINT ["emotune"]
CMD ["--help"]
