"""The HTTP API over a unix socket: routes, access, audit. No business logic."""
