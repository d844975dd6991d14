"""Write the table of web servers in docs/running.md from the results of tests/webhooks/test_web_servers.py.

``python -m tests.helpers.servers_table`` writes the stored results into the page; ``pytest -m slow
tests/webhooks/test_web_servers.py --store-servers`` stores new results and does the same.
"""

import json
from pathlib import Path
from typing import Any

from tests.helpers.web_servers import SERVERS

RESULTS = Path(__file__).with_name("web_servers.json")
PAGE = Path(__file__).parent.parent.parent / "docs/running.md"
BEGIN = "<!-- The table of servers: written by `python -m tests.helpers.servers_table`. -->"
END = "<!-- The end of the table of servers. -->"
HEAD = """\
| server | behind a proxy, set | never | because clients then choose their address with | a body without a length |
|---|---|---|---|---|"""
#: Not tested: from the documentation of mod_wsgi and Apache.
UNTESTED = """\
| mod_wsgi (not tested: from its documentation) | nothing | `WSGITrustedProxyHeaders`, `RemoteIPHeader` \
| the header that is named there, if the proxy passes it on | not known |"""

Results = dict[str, dict[str, Any]]


def stored() -> Results:
    """Return the stored results by the server's name, or an empty dict."""
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return results


def block(results: Results) -> str:
    """Return the page's lines for the table, with both markers."""
    rows = [row(server.name, server.right, server.wrong, results[server.name]) for server in SERVERS]
    return "\n".join([BEGIN, "", HEAD, *rows, UNTESTED, "", END])


def row(name: str, right: str, wrong: str, measured: dict[str, Any]) -> str:
    """Return the table's line for one server."""
    headers = ", ".join(f"`{header}`" for header in measured["wrong"])
    length = {200: "accepted", 411: "rejected with 411"}[measured["chunked"]]
    return f"| {name} ({measured['version']}) | {right} | {wrong} | {headers} | {length} |"


def write() -> None:
    """Write the stored results into the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + block(stored()) + after)


if __name__ == "__main__":
    write()
