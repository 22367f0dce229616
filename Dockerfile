FROM python:3.11-slim

RUN useradd --create-home turnlog
WORKDIR /turnlog
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[otel]'

USER turnlog
ENTRYPOINT ["turnlog"]
CMD ["serve"]
