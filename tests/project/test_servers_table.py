"""The page about web servers says what was measured."""

from tests.helpers.servers_table import PAGE, block, stored
from tests.helpers.web_servers import SERVERS


def test_the_page_has_the_stored_results():
    assert block(stored()) in PAGE.read_text(), "run `python -m tests.helpers.servers_table`"


def test_no_server_believes_its_clients_as_the_page_recommends_it():
    measured = stored()
    assert list(measured) == [server.name for server in SERVERS]
    assert [(results["default"], results["behind"]) for results in measured.values()] == [([], [])] * len(SERVERS)
    assert all(results["wrong"] for results in measured.values()), "what never to set does no harm"
