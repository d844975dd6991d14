"""The vendors, one module each, and the registry that finds them by name."""

from django_bi_integration.vendors.base import Vendor
from django_bi_integration.vendors.big_interview import BIG_INTERVIEW
from django_bi_integration.vendors.innovative_educators import INNOVATIVE_EDUCATORS

VENDORS: dict[str, Vendor] = {vendor.slug: vendor for vendor in (BIG_INTERVIEW, INNOVATIVE_EDUCATORS)}

CHOICES = [(vendor.slug, vendor.label) for vendor in VENDORS.values()]

__all__ = ["BIG_INTERVIEW", "INNOVATIVE_EDUCATORS", "VENDORS", "Vendor"]
