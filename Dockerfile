# One image for every service of docker-compose.yaml: Airflow, the product, and the Python it all runs on.
FROM python:3.11-slim

ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/softpro/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/softpro/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    GX_ANALYTICS_ENABLED=False \
    PYTHONPATH=/opt/softpro/include:/opt/softpro/config \
    PYTHONUNBUFFERED=1

# What changes seldom comes first: a change of the product's code builds in seconds.
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --disable-pip-version-check --compile --no-deps --require-hashes --requirement /tmp/requirements.txt \
    && pip check \
    && rm /tmp/requirements.txt

# A new volume takes over the owner of the logs' folder. All else below AIRFLOW_HOME is a temporary file system.
RUN useradd --uid 50000 --home-dir /opt/airflow softpro \
    && install --directory --owner=softpro --group=softpro /opt/airflow /opt/airflow/logs

# The migrations are looked for in sql/, beside include/. Root owns the code, so that no task can change it.
WORKDIR /opt/softpro
COPY dags dags
COPY plugins plugins
COPY include include
COPY sql sql
COPY config config
RUN python -m compileall -q dags plugins include sql config

USER softpro
EXPOSE 8080
CMD ["airflow", "version"]
