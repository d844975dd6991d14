"""From a stored row to the receivers: claim events, run their receivers, record the outcomes."""
