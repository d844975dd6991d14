"""Fake vendors that send what the real ones document, over real HTTP: headers, retries, success statuses.

They use the standard library only: no Django, nothing of django_bi_integration or of the example project. Point them at
any project that has a registration for the vendor:

* ``python -m fake_vendors big-interview --url URL --key KEY`` sends interview events as Big Interview does.
* ``python -m fake_vendors innovative-educators --url URL`` sends completed courses as Innovative Educators does.
* ``python -m fake_vendors site --api-key KEY`` serves what students and the Partner API client need of Big Interview.

``--help`` has examples. Webhooks: ``events`` (their bodies), ``vendors`` (headers, success, retries), ``http`` (one
POST), ``campaign`` (many at once). The site: ``site`` (start here), ``partner_api``, ``member_pages`` and their
``rendering`` with the templates in ``pages/``, ``members`` (what is stored), ``practice`` (the content), ``web`` (the
server).
"""
