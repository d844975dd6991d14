"""The documentation's table of web servers has the stored test results."""

from tests.helpers.servers_table import PAGE, block, stored
from tests.helpers.web_servers import SERVERS


def test_the_table_of_web_servers_has_the_stored_results():
    assert block(stored()) in PAGE.read_text(), "run `python -m tests.helpers.servers_table`"


def test_no_server_lets_clients_choose_their_address_if_set_up_as_recommended():
    measured = stored()
    assert list(measured) == [server.name for server in SERVERS]
    assert [(results["default"], results["behind"]) for results in measured.values()] == [([], [])] * len(SERVERS)
    assert all(results["wrong"] for results in measured.values()), "an option listed under “never” has no effect"
