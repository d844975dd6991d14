"""The registration that receives the deliveries."""

from django_bi_integration.models import WebhookRegistration
from django_bi_integration.vendors import BIG_INTERVIEW

KEY = "935d85189822bf96c28c4fa79d3d8f31"


def registration() -> WebhookRegistration:
    """Return the registration of Big Interview with the key of the benchmarks."""
    found = WebhookRegistration.objects.filter(name="Benchmark").first()
    if found is None:
        found = WebhookRegistration(name="Benchmark", vendor=BIG_INTERVIEW.slug)
        found.set_key(KEY)
        found.save()
    return found
