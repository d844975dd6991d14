"""Bodies that no vendor sends, and Hypothesis strategies that generate them."""

import json

from hypothesis import strategies as st

from django_bi_integration.events import CourseCompletion, Interview
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from tests.host.models import Effect

HOLE = "hole"

#: The JSON paths that each vendor's parser reads, and one (``other``) that it ignores.
PLACES = {
    BIG_INTERVIEW: [
        *[("webhook", name) for name in ("id", "partner_id", "api_id", "api_type")],
        *[("webhook", "api_object", name) for name in ("id", "title", "completed", "created_at", "updated_at")],
        *[("webhook", "api_object", "links", name) for name in ("review", "retake", "other")],
        *[("webhook", "event_name"), ("webhook", "api_object", "links"), ("webhook", "api_object"), ("webhook",)],
    ],
    INNOVATIVE_EDUCATORS: [
        *[(name,) for name in ("id", "timestamp", "user", "companyId", "notifiableId", "title", "other")],
        *[("userDetail", name) for name in ("id", "firstName", "externalCustomerId", "client", "ref1")],
        *[("source",), ("type",), ("event",), ("userDetail",)],
    ],
}
#: The paths, except those that decide the event's type and those that contain others.
LEAVES = {vendor: places[:-4] for vendor, places in PLACES.items()}
TIMES = {
    BIG_INTERVIEW: [("webhook", "api_object", "created_at"), ("webhook", "api_object", "updated_at")],
    INNOVATIVE_EDUCATORS: [("timestamp",)],
}
EVENT_TYPES = {BIG_INTERVIEW: "interview.updated", INNOVATIVE_EDUCATORS: "courseComplete"}


def body_with(vendor, value, places, event_id="1"):
    """Return the vendor's sample with the JSON text ``value`` at the given paths."""
    document = vendor.sample(EVENT_TYPES[vendor], event_id, "me")
    for place in places:
        inner = document
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = HOLE
    return json.dumps(document).replace(f'"{HOLE}"', value).encode("utf-8", "surrogatepass")


def keep(event, data, **arguments):
    """Write every text of an event to the database, as a host's receiver would."""
    texts = [event.vendor_event_id, event.event_type, event.subject_id, event.object_id, str(event.user or "")]
    if isinstance(data, Interview):
        texts += [data.id, data.partner_id, data.title, data.review_path]
    if isinstance(data, CourseCompletion):
        texts += [data.course_id, data.course_title, data.learner.email, data.learner.external_customer_id]
        texts += data.learner.refs.values()
    Effect.objects.bulk_create(Effect(receiver=text[:100], event_id=text[:255]) for text in texts if text)


# JSON as text, because Python values cannot express duplicate keys, numbers of any size, or a choice of escapes.
characters = st.characters(exclude_categories=()) | st.sampled_from('\0\ud800\udfff\ufeff\u2028\N{GRINNING FACE}"\\')
texts = st.text(characters, max_size=30)
strings = st.builds(lambda text, escaped: json.dumps(text, ensure_ascii=escaped), texts, st.booleans())
digits = st.sampled_from([1, 18, 19, 20, 308, 309]).map("9".__mul__)
numbers = (
    st.integers().map(str)
    | st.floats().map(json.dumps)
    | digits
    | st.sampled_from(["9" * 4_300, "9" * 4_301])
    | st.builds("{}.{}e{}".format, digits, digits, st.integers(-400, 400))
)
times = st.datetimes().map(lambda moment: f'"{moment.isoformat()}"')
leaves = strings | numbers | times | st.sampled_from(["null", "true", "false", "[]", "{}", "NaN", '""', '" "'])


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    names = strings | st.sampled_from(["webhook", "id", "event", "userDetail", "api_object"]).map(json.dumps)
    lists = st.lists(inner, max_size=5).map(lambda items: f"[{','.join(items)}]")
    members = st.builds("{}:{}".format, names, inner)
    objects = st.lists(members, max_size=5).map(lambda items: f"{{{','.join(items)}}}")
    nested = st.builds(lambda depth, item: "[" * depth + item + "]" * depth, st.integers(1, 40), inner)
    return lists | objects | nested


values = st.recursive(leaves, _containers, max_leaves=15)


@st.composite
def mutated_samples(draw: st.DrawFn) -> bytes:
    """Generate a vendor's sample with other JSON in some places, and sometimes a few changed bytes."""
    vendor = draw(st.sampled_from(list(PLACES)))
    places = draw(st.lists(st.sampled_from(LEAVES[vendor]), max_size=4, unique=True))
    body = bytearray(body_with(vendor, draw(values), places))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        start = draw(st.integers(0, len(body)))
        body[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


bodies = (
    mutated_samples()
    | values.map(lambda text: f'{{"a":{text}}}'.encode("utf-8", "surrogatepass"))
    | values.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary(max_size=200)
)
