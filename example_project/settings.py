"""Settings of the example project; environment variables alone configure it.

DATABASE_URL              default: SQLite in ``.demo/``
CELERY_BROKER_URL         default: a broker in the memory of the process, for the demo
DJANGO_SECRET_KEY         default: one that everybody knows, rejected as soon as DATABASE_URL, DJANGO_ALLOWED_HOSTS or
                          DJANGO_HTTPS tell that the project serves others, unless DJANGO_DEBUG is on
DJANGO_DEBUG              ``1`` or ``0``; default: 0
DJANGO_ALLOWED_HOSTS      comma-separated; default: this machine
DJANGO_HTTPS              ``1``: the site is reached by https, as behind a proxy that ends TLS; default: 0
DJANGO_HSTS_SECONDS       how long browsers insist on https then; default: 3600
DJANGO_HSTS_DOMAIN        ``1``: they do so for all subdomains, and may have it built in; default: 0
DEMO_DATA                 where the demo keeps its database; default: ``.demo/`` beside this project
BI_BASE_URL               Big Interview's host, with {org} for the organisation; default: https://{org}.biginterview.com
BI_TRUSTED_PROXIES        comma-separated addresses or CIDRs, outermost first; default: none
"""

import os
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from django_bi_integration.schedule import beat_schedule

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DEMO_DATA", ROOT / ".demo"))


def words(name: str, default: str = "") -> list[str]:
    """The comma-separated entries of an environment variable."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def flag(name: str) -> bool:
    """Whether an environment variable is switched on."""
    return os.environ.get(name, "0").lower() in {"1", "true", "yes", "on"}


DEBUG = flag("DJANGO_DEBUG")
HTTPS = flag("DJANGO_HTTPS")
# The prefix is the one that ``check --deploy`` warns of.
KNOWN_TO_ALL = "django-insecure-the example project's own key, which everybody knows"
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", KNOWN_TO_ALL)
ALLOWED_HOSTS = words("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS if HTTPS]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    # Before the package whose pages it gives its own look.
    "example_project.portal",
    "django_bi_integration",
    "demo",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example_project.portal.middleware.content_security_policy",
    # Serves the static files under gunicorn too, so that a trial needs no second server.
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

DATABASES = {
    "default": dj_database_url.parse(
        os.environ.get("DATABASE_URL", f"sqlite:///{DATA / 'db.sqlite3'}"),
        conn_max_age=60,
        conn_health_checks=True,  # a connection that the database has closed costs no delivery
    )
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATA.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "memory://localhost/")
CELERY_BEAT_SCHEDULE = beat_schedule()
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum" if CELERY_BROKER_URL.startswith("amqp") else "classic"
if CELERY_BROKER_URL.startswith("memory"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.1}
elif CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "socket_timeout": 2, "socket_connect_timeout": 2}

BI_INTEGRATION = {
    "TRUSTED_PROXIES": words("BI_TRUSTED_PROXIES"),
    "BASE_URL": os.environ.get("BI_BASE_URL", "https://{org}.biginterview.com"),
    "PARTNER_ID": "example_project.portal.students.partner_id",
    "PARTNER_USER": "example_project.portal.students.partner_user",
}
LOGIN_URL = "admin:login"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    # A redirect of a webhook would lose the event: the vendor takes it for delivered.
    SECURE_REDIRECT_EXEMPT = [r"^bi/webhooks/"]
    SECURE_HSTS_SECONDS = int(os.environ.get("DJANGO_HSTS_SECONDS", "3600"))
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = flag("DJANGO_HSTS_DOMAIN")
    if not SECURE_HSTS_PRELOAD:
        # Both would bind sites that are not this one: that is for the owner of the domain to say.
        SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django_bi_integration": {"handlers": ["console"], "level": "INFO"},
        # Django keeps a failed request to itself where DEBUG is off; a rejected one is the app's to tell.
        "django.request": {"handlers": ["console"], "level": "ERROR", "propagate": False},
    },
}

# Where the button "Play the story again" posts to; the demo sets it.
PORTAL_PLAY_URL: str | None = None
# Whether anybody may sign in as any student; the demo, which listens on this machine alone, switches it on.
PORTAL_OPEN_SIGN_IN = False

SERVES_OTHERS = HTTPS or any(os.environ.get(name) for name in ("DATABASE_URL", "DJANGO_ALLOWED_HOSTS"))
if SECRET_KEY == KNOWN_TO_ALL and not DEBUG and SERVES_OTHERS:
    raise ImproperlyConfigured("Set DJANGO_SECRET_KEY, or DJANGO_DEBUG=1 on your own machine.")
