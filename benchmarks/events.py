"""The events that are sent: Big Interview's documented sample of 750 bytes, each with a different id."""

import json
from collections.abc import Iterator
from itertools import count, islice

from django_bi_integration.events import INTERVIEW_CREATED
from django_bi_integration.vendors import BIG_INTERVIEW

SIZE = 750
_numbers = count(1)


def unique() -> Iterator[bytes]:
    """Yield bodies with different event ids, interviews and students."""
    document = BIG_INTERVIEW.sample(INTERVIEW_CREATED, "@E@", "@S@")
    document["webhook"]["api_id"] = "@I@"
    document["webhook"]["api_object"]["id"] = "@N@"
    document["webhook"]["api_object"]["category"] += " " * (SIZE - len(json.dumps(document)) - 28)
    template = json.dumps(document)
    for number in _numbers:
        text = f"{number:010}"
        yield (
            template.replace("@E@", text)
            .replace("@S@", f"s{text}")
            .replace("@I@", str(number))
            .replace('"@N@"', str(number))
            .encode()
        )


#: The number of events that a vendor sends again at once.
BLOCK = 50


def repeated(times: int) -> Iterator[bytes]:
    """Yield each body ``times`` times, block by block, as a vendor retries deliveries that were not acknowledged."""
    bodies = unique()
    while block := list(islice(bodies, BLOCK)):
        for _ in range(times):
            yield from block
