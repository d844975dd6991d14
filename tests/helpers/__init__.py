"""What the tests share. Look here before you write a helper.

Requests and rows: ``deliveries`` (registrations, sample events, post one, receivers while a test runs), ``sign_on`` and
``partner_api`` (launches, a Partner API that answers as told), ``admin_pages``, ``raw_http``, ``hostile`` (bodies and
headers that no vendor sends), ``names``, ``readme`` (the examples of README.md).

Faults: ``faults`` (databases and brokers that fail), ``proxies`` (servers that hang, cut off or lie), ``snapshot`` (a
transaction that keeps an old snapshot), ``waiting`` (until something is true).

Real programs: ``servers`` and ``own_servers`` (PostgreSQL, MariaDB, Redis, RabbitMQ), ``rooms`` (a database or queue
for one test), ``stack`` (gunicorn and a worker), ``web_servers`` (every web server), ``nginx``, ``browser``.
"""
