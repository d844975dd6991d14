"""Repair after mistakes: run failed receivers again, dispatch a conflicting body, rebuild object states."""

from django_bi_integration.recovery.conflicting_bodies import SwapResult, dispatch_conflicting
from django_bi_integration.recovery.object_states import rebuild_states, states_without_events
from django_bi_integration.recovery.retry import retry_failed

__all__ = ["SwapResult", "dispatch_conflicting", "rebuild_states", "retry_failed", "states_without_events"]
