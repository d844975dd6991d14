"""Settings of the example project, configured by environment variables only.

DATABASE_URL              default: SQLite in DEMO_DATA
CELERY_BROKER_URL         default: a broker in this process's memory, which only ``manage.py demo`` can use
BI_BASE_URL               Big Interview's address, {org} is the subdomain; default: https://{org}.biginterview.com
BI_TRUSTED_PROXIES        comma-separated addresses or CIDRs, outermost proxy first; default: none
DJANGO_SECRET_KEY         default: a published key, rejected if DATABASE_URL, DJANGO_ALLOWED_HOSTS or DJANGO_HTTPS
                          shows that this is a deployment, unless DJANGO_DEBUG is on
DJANGO_DEBUG              ``1`` or ``0``; default: 0
DJANGO_ALLOWED_HOSTS      comma-separated; default: this machine
DJANGO_HTTPS              ``1`` if the site is served over https, such as behind a proxy that ends TLS; default: 0
DJANGO_HSTS_SECONDS       how long browsers then insist on https; default: 3600
DJANGO_HSTS_DOMAIN        ``1`` to include all subdomains and allow preloading; default: 0
DEMO_DATA                 the folder of the SQLite database; default: ``.demo/`` beside this project
"""

import os
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from django_bi_integration.schedule import beat_schedule


def env_list(name: str, default: str = "") -> list[str]:
    """Return the comma-separated entries of an environment variable."""
    return [entry.strip() for entry in os.environ.get(name, default).split(",") if entry.strip()]


def env_flag(name: str) -> bool:
    """Return whether an environment variable is switched on."""
    return os.environ.get(name, "0").lower() in {"1", "true", "yes", "on"}


# django_bi_integration

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Receivers, models and pages of this project. Before the package, so that templates here replace the package's.
    "example_project.portal",
    "django_bi_integration",
    # Only adds "manage.py demo". A project of your own has no such app.
    "demo",
]

BI_INTEGRATION = {
    # Without a proxy in this list, the client's address is that of the connection and forwarding headers are ignored.
    "TRUSTED_PROXIES": env_list("BI_TRUSTED_PROXIES"),
    "BASE_URL": os.environ.get("BI_BASE_URL", "https://{org}.biginterview.com"),
    # Students have a separate id at Big Interview. The default is the user's primary key.
    "PARTNER_ID": "example_project.portal.students.partner_id",
    "PARTNER_USER": "example_project.portal.students.partner_user",
}

# Single sign-on sends visitors who are not signed in here. This project has no login page other than the admin's.
LOGIN_URL = "admin:login"

# Innovative Educators counts a redirect as delivered, so redirecting a webhook to https would lose the event.
SECURE_REDIRECT_EXEMPT = [r"^bi/webhooks/"]

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "memory://localhost/")
# The sweep finds events whose notification was lost.
CELERY_BEAT_SCHEDULE = beat_schedule()
# The package needs no result backend.
CELERY_TASK_IGNORE_RESULT = True
# A dispatch may take minutes, so a worker reserves no more than one task per process.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if CELERY_BROKER_URL.startswith("memory"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.1}
elif CELERY_BROKER_URL.startswith("redis"):
    # Without socket_timeout, a server that accepts connections and never answers blocks a caller for minutes.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "socket_timeout": 2, "socket_connect_timeout": 2}
elif CELERY_BROKER_URL.startswith("amqp"):
    # A quorum queue survives the loss of a RabbitMQ node.
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"

DATA = Path(os.environ.get("DEMO_DATA", Path(__file__).resolve().parent.parent / ".demo"))
DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL", f"sqlite:///{DATA / 'db.sqlite3'}"),
        conn_max_age=60,
        conn_health_checks=True,  # A connection that the database closed is replaced before it costs a delivery.
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATA.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        # Wait for the lock when a transaction begins, because SQLite cannot wait for it later.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # "200 means stored": synchronous=FULL keeps that promise through a power failure.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django_bi_integration": {"handlers": ["console"], "level": "INFO"},
        # With DEBUG off, Django only e-mails errors to ADMINS. Its warnings are left out, because the package itself
        # reports rejected deliveries.
        "django.request": {"handlers": ["console"], "level": "ERROR", "propagate": False},
    },
}

# What every Django project has

DEBUG = env_flag("DJANGO_DEBUG")
HTTPS = env_flag("DJANGO_HTTPS")
ALLOWED_HOSTS = env_list("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS if HTTPS]

# "manage.py check --deploy" warns of this prefix.
PUBLISHED_KEY = "django-insecure-the example project's key, which everybody knows"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", PUBLISHED_KEY)
IS_DEPLOYED = HTTPS or any(os.environ.get(name) for name in ("DATABASE_URL", "DJANGO_ALLOWED_HOSTS"))
if SECRET_KEY == PUBLISHED_KEY and IS_DEPLOYED and not DEBUG:
    raise ImproperlyConfigured("Set DJANGO_SECRET_KEY, or DJANGO_DEBUG=1 on your own machine.")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example_project.portal.middleware.content_security_policy",
    # Serves static files under gunicorn too, so that a trial needs no second server.
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Prints each e-mail instead of sending it.
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = int(os.environ.get("DJANGO_HSTS_SECONDS", "3600"))
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env_flag("DJANGO_HSTS_DOMAIN")
    if not SECURE_HSTS_PRELOAD:
        # Both affect other sites of the domain, so its owner decides.
        SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
