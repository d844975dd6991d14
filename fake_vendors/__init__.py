"""Fake vendors, honest ones: the documented headers, retry schedules and success rules, over real HTTP."""
