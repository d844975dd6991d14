"""Big Interview's Partner API."""

from django_bi_integration.partner_api.client import PartnerClient, PartnerUser, Track, TrackStep

__all__ = ["PartnerClient", "PartnerUser", "Track", "TrackStep"]
