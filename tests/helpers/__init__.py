"""Helpers that several tests use. Look here before you write one.

Requests and rows: ``deliveries`` (registrations, sample bodies, a delivery, receivers connected within a block),
``receivers`` (receivers and their effects), ``sign_on`` (accounts and students), ``partner_api`` (a Partner API with
scripted responses), ``http_servers`` (an HTTP server with scripted responses), ``admin_pages``, ``raw_http`` (HTTP over
a socket), ``hostile`` (bodies that no vendor sends), ``names`` (the prefix of this run), ``readme`` (the examples of
README.md).

Faults: ``faults`` (database calls that fail or are interrupted), ``disposable_servers`` (servers that a test may kill
or pause), ``snapshot`` (a transaction that stays open), ``waiting`` (poll until a condition is true).

Real programs: ``servers`` (PostgreSQL, MariaDB, Redis, RabbitMQ), ``shared_servers`` (a separate database or queue on
one of them), ``stack`` (gunicorn and a Celery worker), ``web_servers`` (every supported web server), ``servers_table``
(their results in docs/running.md), ``nginx`` and ``proxies`` (chains of reverse proxies), ``browser`` (Chromium).

Settings, URLs and apps for those programs: ``stack_settings``, ``web_server_settings``, ``web_server_urls``,
``web_server_apps``, ``other_project``.
"""
