"""``manage.py demo``: the example project with a worker and fake vendors in one process.

None of this belongs to a host project. ``manage.py demo`` starts, in threads of one process,

* the example project on Django's development server (``server``), with two more URLs (``urls``, ``views``),
* a Celery worker and beat on a broker in memory (``embedded``),
* the pages and the Partner API of a fake Big Interview (the package ``fake_vendors``).

Then the fake vendors send the events of a story (``story``), and the terminal shows what happens to each of them
(``narrator``). With ``--once``, a student also practises, without a person (``journey``). In the end, the command
compares what was sent with what was stored and dispatched (``summary``).
"""
