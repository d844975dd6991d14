"""The demo: portal, worker and fake vendors in one process, and a story that they play."""
