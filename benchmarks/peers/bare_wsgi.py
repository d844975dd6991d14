"""The upper limit: no framework, and one ``INSERT … ON CONFLICT DO NOTHING`` with one commit for each delivery."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import psycopg

connection: psycopg.Connection[Any] | None = None

INSERT = """
    INSERT INTO bare_event (registration_id, event_id, body) VALUES (%s, %s, %s)
    ON CONFLICT (registration_id, event_id) DO NOTHING
"""


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Store the body under its id."""
    global connection
    if connection is None:
        connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    registration_id = environ["PATH_INFO"].strip("/")
    connection.execute(INSERT, (registration_id, json.loads(body)["webhook"]["id"], body))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]
