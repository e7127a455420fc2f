"""The application: routes, errors, access."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI

from daemon.api import (
    audits,
    changes,
    elsewhere,
    errors,
    history,
    lifecycle,
    membership,
    meshes,
    node,
    objects,
    policy_log,
    tokens,
    trials,
    users,
    waiting,
    zone,
)
from daemon.api.access import AccessControl, authorize
from daemon.api.answers import ErrorAnswer
from daemon.api.audit import Audit
from daemon.api.backend import Backend

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "No token, or not a valid one"},
    403: {"model": ErrorAnswer, "description": "Not for this role, group or tenant"},
    404: {"model": ErrorAnswer, "description": "Unknown"},
    409: {"model": ErrorAnswer, "description": "In the way of something that exists"},
    422: {"model": ErrorAnswer, "description": "Invalid; nothing was changed"},
    503: {"model": ErrorAnswer, "description": "The store does not answer"},
}


def create_app(backend: Backend, version: str) -> FastAPI:
    """The routes. They answer nobody until `guarded` says who asks."""
    app = FastAPI(
        title="plumd",
        version=version,
        description="Virtual domains of a Plum zone.",
        docs_url=None,  # they load scripts from other hosts
        redoc_url=None,
        responses=ERRORS,
        dependencies=[Depends(authorize), Depends(elsewhere.stay_or_go)],
    )
    app.state.backend = backend
    errors.install(app)
    elsewhere.install(app)
    for module in (
        objects, changes, history, waiting, node, meshes, trials, policy_log, users, tokens, audits, lifecycle,
        membership, zone,
    ):  # fmt: skip
        app.include_router(module.router)
    return app


def guarded(app: FastAPI, audit: Audit) -> AccessControl:
    return AccessControl(app, audit)
