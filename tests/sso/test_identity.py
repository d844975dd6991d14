"""Each partner id belongs to one user: a launch that would open another user's interviews is rejected."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.checks import Tags, run_checks
from django.utils import timezone
from requests.adapters import HTTPAdapter

from django_bi_integration import sso
from django_bi_integration.exceptions import BIIntegrationError
from django_bi_integration.models import BigInterviewAccount, SSOSession
from tests.helpers.partner_api import answer, partner_api_for_any_user
from tests.helpers.sign_on import big_interview_account, client_of, new_student

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

LOGIN, LAUNCH = "/bi/sso/login/", "/bi/sso/launch/"


def surname(user):
    """Return an id that two users share."""
    return user.last_name


def of_surname(partner_id):
    return User.objects.filter(last_name=partner_id).order_by("pk").first()


def the_one_of_surname(partner_id):
    return User.objects.get(last_name=partner_id)


def nobody(partner_id):
    return None


def newest_of_surname(partner_id):
    return User.objects.filter(last_name__iexact=partner_id).order_by("pk").last()


@pytest.fixture
def api(settings):
    with partner_api_for_any_user(settings, {"API_BUDGET_SECONDS": 5}) as running:
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {
            "PARTNER_ID": "tests.sso.test_identity.surname",
            "PARTNER_USER": "tests.sso.test_identity.nobody",
        }
        big_interview_account()
        yield running


@pytest.fixture
def first(api):
    return new_student("first")


@pytest.fixture
def second(api):
    return new_student("second")


def launch(student):
    return client_of(student).get(LOGIN).status_code


def test_a_launch_with_another_users_id_is_rejected(settings, api, first, second):
    """Here, PARTNER_USER finds the first user for the second user's id."""
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_USER": "tests.sso.test_identity.of_surname"}
    assert launch(first) == 302
    response = client_of(second).get(LOGIN)
    session = SSOSession.objects.get(user=second)
    assert response.status_code == 403
    assert "so that nobody sees another person’s interviews" in response.content.decode()
    assert session.reference in response.content.decode()
    assert "PARTNER" not in response.content.decode()
    assert session.error.startswith("SharedPartnerID: BI_INTEGRATION['PARTNER_USER'] finds another user")
    assert f"'Johnson', the id that BI_INTEGRATION['PARTNER_ID'] gives to the user {second.pk}." in session.error
    assert len(api.requests) == 1
    assert client_of(second).post(LAUNCH).json()["error"] == "shared_partner_id"


def test_an_id_for_which_several_users_are_found_is_rejected(settings, api, first, second):
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_USER": "tests.sso.test_identity.the_one_of_surname"}
    assert (launch(first), launch(second)) == (403, 403)
    assert api.requests == []


def test_an_id_that_another_user_has_launched_with_is_rejected(api, first, second):
    """This holds even if PARTNER_USER finds nobody."""
    assert (launch(first), launch(second)) == (302, 403)
    error = SSOSession.objects.get(user=second).error
    assert error.startswith(f"SharedPartnerID: The user {first.pk} has signed on with 'Johnson', the id that BI_INTEGR")
    assert len(api.requests) == 1


def test_the_first_user_of_an_id_keeps_it(api, first, second):
    """Another user's rejected launch has no effect on them."""
    launch(first)
    launch(second)
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert launch(first) == 302


def test_a_failed_launch_does_not_claim_the_id(api, first, second):
    good = api.scripts[0]
    api.scripts[:] = [answer(401), good]
    assert (launch(first), launch(second)) == (502, 302)


def test_a_launch_whose_process_died_does_not_claim_the_id(api, first, second):
    then = timezone.now() - timedelta(hours=1)
    account = BigInterviewAccount.objects.get()
    SSOSession.objects.create(user=first, account=account, partner_id="Johnson", requested_at=then)
    assert launch(second) == 302


def test_only_one_of_two_users_with_one_id_is_redirected_if_they_launch_at_the_same_time(api, first, second):
    class MeetsAnother(HTTPAdapter):
        def send(self, *arguments, **options):
            with pytest.raises(BIIntegrationError) as failure:
                sso.start(second)
            assert failure.value.session.error.startswith("SharedPartnerID")
            return super().send(*arguments, **options)

    sso.start(first, transport=MeetsAnother())
    assert [request.path for request in api.requests] == ["/api/users/Johnson"]


def test_ids_that_differ_in_case_are_different_ids(api, settings, first, second):
    """The package compares them itself, because a database may consider them equal."""
    User.objects.filter(pk=second.pk).update(last_name="JOHNSON")
    second.refresh_from_db()
    assert (launch(first), launch(second)) == (302, 302)
    settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_USER": "tests.sso.test_identity.newest_of_surname"}
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert (launch(first), launch(second)) == (403, 302)


def test_the_same_id_at_another_organisation_belongs_to_another_user(api, first, second):
    big_interview_account("abc")
    assert client_of(first).get(LOGIN, {"account": "xyz"}).status_code == 302
    assert client_of(second).get(LOGIN, {"account": "abc"}).status_code == 302


def test_a_user_who_was_deleted_and_created_again_gets_their_interviews_back(api, first, second):
    launch(first)
    first.delete()
    assert launch(second) == 302


def test_the_single_sign_ons_of_a_merged_user_can_be_moved(api, first, second):
    """As docs/single-sign-on.md says, if both users are the same person."""
    launch(first)
    assert launch(second) == 403
    SSOSession.objects.filter(user=first).update(user=second)
    assert launch(second) == 302


def test_custom_ids_are_accepted_without_partner_user(api, settings, first):
    """Its default does not know the ids. It may even find another user, whose primary key looks like one."""
    User.objects.filter(pk=first.pk).update(last_name=str(new_student("other").pk))
    del settings.BI_INTEGRATION["PARTNER_USER"]
    first.refresh_from_db()
    assert launch(first) == 302


class TestTheCheck:
    """The check W010, which only runs if a command names the database and an account exists."""

    def messages(self):
        return run_checks(tags=[Tags.database], databases=["default"])

    def test_it_finds_two_users_with_one_id(self, first, second):
        (message,) = self.messages()
        assert message.id == "django_bi_integration.W010"
        assert message.msg == f"PARTNER_ID gives the users {first.pk} and {second.pk} the same id, 'Johnson'."
        assert "one id for each user, one user for each id" in message.hint

    def test_it_calls_functions_that_the_settings_contain_directly(self, settings, first, second):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_ID": surname, "PARTNER_USER": nobody}
        assert [message.id for message in self.messages()] == ["django_bi_integration.W010"]

    def test_it_finds_settings_that_contradict_each_other(self, settings, first):
        new_student("other")
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {
            "PARTNER_ID": "django_bi_integration.users.primary_key",
            "PARTNER_USER": "tests.sso.test_identity.first_user",
        }
        assert [message.id for message in self.messages()] == ["django_bi_integration.W010"]

    def test_it_reports_nothing_if_each_user_has_a_different_id(self, first, second):
        User.objects.filter(pk=second.pk).update(last_name="Jones")
        assert self.messages() == []

    @pytest.mark.parametrize(
        "change",
        [
            lambda bi: bi.clear(),
            lambda bi: bi.update(PARTNER_ID="tests.sso.test_identity.broken"),
            lambda bi: bi.update(PARTNER_ID="tests.nowhere"),
        ],
        ids=["the default", "a function that raises", "no function"],
    )
    def test_it_reports_nothing_if_partner_id_is_the_default_or_cannot_be_called(self, settings, first, second, change):
        change(settings.BI_INTEGRATION)
        assert self.messages() == []

    def test_it_rolls_back_what_the_functions_write(self, settings, first):
        settings.BI_INTEGRATION = settings.BI_INTEGRATION | {"PARTNER_ID": "tests.sso.test_identity.writes"}
        assert self.messages() == []
        assert not User.objects.filter(username="written").exists()

    def test_it_reports_nothing_without_an_account(self, first, second):
        BigInterviewAccount.objects.all().delete()
        assert self.messages() == []


def first_user(partner_id):
    return User.objects.earliest("pk")


def broken(user):
    raise LookupError


def writes(user):
    User.objects.create_user("written")
    return "x"
