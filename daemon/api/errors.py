"""Every error of the API has one shape."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from daemon.api.answers import ErrorAnswer, ErrorBody, ProblemAnswer
from daemon.store.interface import StoreError
from daemon.zone.errors import ZoneError

log = logging.getLogger(__name__)


class NotFoundError(Exception):
    """The route exists, what it names does not."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RefusedError(Exception):
    """The one who asks may not do this; nothing was changed."""

    def __init__(
        self, message: str, hint: str = "", problems: tuple[ProblemAnswer, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = problems


def error_response(
    status: int, message: str, hint: str = "", problems: tuple[ProblemAnswer, ...] = ()
) -> JSONResponse:
    body = ErrorAnswer(error=ErrorBody(message=message, hint=hint, problems=problems))
    return JSONResponse(body.model_dump(mode="json"), status)


def install(app: FastAPI) -> None:
    """Register a handler for everything a route may raise."""

    @app.exception_handler(ZoneError)
    async def zone(request: Request, error: ZoneError) -> JSONResponse:
        request.state.summary = error.message
        return JSONResponse(error.document(), error.code)

    @app.exception_handler(NotFoundError)
    async def not_found(request: Request, error: NotFoundError) -> JSONResponse:
        return error_response(HTTPStatus.NOT_FOUND, error.message, error.hint)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        request.state.summary = error.message
        return error_response(HTTPStatus.FORBIDDEN, error.message, error.hint, error.problems)

    @app.exception_handler(StoreError)
    async def store(request: Request, error: StoreError) -> JSONResponse:
        request.state.summary = str(error)
        hint = "what runs goes on running; look at the store, then try again"
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = tuple(
            ProblemAnswer(path=".".join(map(str, found["loc"])), message=found["msg"])
            for found in error.errors()
        )
        hint = "GET /openapi.json says what the route takes"
        return error_response(
            HTTPStatus.UNPROCESSABLE_ENTITY, "the request is malformed", hint, problems
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        hint = "GET /openapi.json lists the routes" if error.status_code < 500 else ""
        return error_response(error.status_code, str(error.detail), hint)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("request failed", extra={"object": request.url.path, "step": "api"})
        return error_response(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"plumd failed on this request ({type(error).__name__})",
            "this is a bug: plumd's log has the details",
        )
