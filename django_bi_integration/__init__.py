"""Receive Big Interview and Innovative Educators webhooks in Django, durably and once."""

__version__ = "0.1.0"
