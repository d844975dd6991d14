"""Settings of the benchmarked project: those of ``startproject`` with PostgreSQL and Redis, for all receivers."""

import os

import dj_database_url

from django_bi_integration.schedule import beat_schedule

SECRET_KEY = "only for benchmarks " * 3
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "benchmarks.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_bi_integration",
    "benchmarks.peers",
]
if "BENCHMARK_DJSTRIPE" in os.environ:
    INSTALLED_APPS.append("djstripe")
    STRIPE_TEST_SECRET_KEY = "sk_test_" + "benchmark"
    DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
    DJSTRIPE_WEBHOOK_EVENT_CALLBACK = "benchmarks.peers.stripe.store_only"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
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
STATIC_URL = "static/"
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"], conn_max_age=600)}
if "BENCHMARK_DRIVER_PREPARES" in os.environ:
    DATABASES["default"]["OPTIONS"] = {"server_side_binding": True, "prepare_threshold": 5}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR", "handlers": []}}

CELERY_BEAT_SCHEDULE = beat_schedule()
CELERY_BROKER_URL = os.environ["CELERY_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = os.environ["BENCHMARK_QUEUE"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "socket_timeout": 2, "socket_connect_timeout": 2}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

BI_INTEGRATION: dict[str, object] = {
    "TRUSTED_PROXIES": [proxy for proxy in os.environ.get("BENCHMARK_PROXIES", "").split(",") if proxy]
}
if "BENCHMARK_BASE_URL" in os.environ:
    BI_INTEGRATION["BASE_URL"] = os.environ["BENCHMARK_BASE_URL"]
    BI_INTEGRATION["MAX_CONCURRENT_LAUNCHES"] = int(os.environ["BENCHMARK_LAUNCHES"])
