"""System checks, one function for each rule; every id is documented in docs/checks.md."""

from django.core.checks import Tags, register

from django_bi_integration.operations.checks import project, proxies, settings, sso, workers
from django_bi_integration.operations.checks.base import PREFIX, Check

ALWAYS: list[Check] = [
    settings.check_is_dict,
    settings.check_names,
    settings.check_types,
    settings.check_base_url,
    settings.check_return_url_origins,
    settings.check_dotted_paths,
    settings.check_api_encoding,
    settings.check_encryption_keys,
    proxies.check_trusted_proxies,
    proxies.check_hops,
    proxies.check_proxy_hint,
    project.check_database,
    project.check_time_zones,
    workers.check_celery_app,
    workers.check_named_celery_app,
    workers.check_one_celery_app,
    workers.check_receivers,
    sso.check_partner_user,
    sso.check_return_page,
    sso.check_user_details,
    sso.check_primary_key,
]
#: Run by ``manage.py check --deploy``: what they check may exist only in production.
ON_DEPLOYMENT: list[Check] = [
    project.check_middleware,
    proxies.check_forwarded_allow_ips,
    workers.check_eager_tasks,
    workers.check_sweep,
    workers.check_pool,
]
#: Run by commands that name a database, such as ``migrate``.
OF_THE_DATABASE: list[Check] = [proxies.check_allowlists, sso.check_partner_ids]


def register_checks() -> None:
    """Register every check with Django."""
    for check in ALWAYS:
        register(check, PREFIX)
    for check in ON_DEPLOYMENT:
        register(check, PREFIX, deploy=True)
    for check in OF_THE_DATABASE:
        register(check, Tags.database)
