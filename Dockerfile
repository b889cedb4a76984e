# Not run here: written where no container can be built. The locked environment and the package of this checkout.
#   docker build -t cvae-protein . && docker run --rm -v "$PWD:/work" cvae-protein sample --model pretrained --fold 2 -o x.pdb
FROM python:3.11-slim
RUN useradd --create-home user
WORKDIR /opt/cvae_protein
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps .
USER user
WORKDIR /work
ENTRYPOINT ["cvae-protein"]
CMD ["--help"]
