"""The Celery app of another project, without this package, on the same broker."""

import os

from celery import Celery

app = Celery("other_project", broker=os.environ["CELERY_BROKER_URL"])
app.conf.broker_connection_retry_on_startup = True
app.conf.task_default_queue_type = "quorum" if os.environ["CELERY_BROKER_URL"].startswith("amqp") else "classic"
