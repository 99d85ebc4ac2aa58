"""Import Airflow and the plugin in advance for a forked process; see `forked_process.py`."""

# ruff: noqa: F401
import airflow.api_fastapi.app
import airflow.api_fastapi.auth.managers.simple.simple_auth_manager
import airflow.api_fastapi.auth.middlewares.refresh_token
import airflow.api_fastapi.common.http_access_log
import airflow.models.revoked_token
import airflow.providers.postgres.hooks.postgres
import uvicorn.protocols.http.httptools_impl

import softpro.orchestration.triggers
import softpro_web.app
