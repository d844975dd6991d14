"""Single sign-on: an account at Big Interview, and logged-in students."""

from django.contrib.auth.models import User
from django.test import Client

from django_bi_integration.models import BigInterviewAccount
from tests.helpers.partner_api import API_KEY


def big_interview_account(subdomain="xyz", **fields):
    """Store an account with ``API_KEY`` and return it."""
    made = BigInterviewAccount(subdomain=subdomain, **fields)
    made.set_api_key(API_KEY)
    made.save()
    return made


def new_student(username="student"):
    """Store a user with a name and an e-mail address and return it."""
    details = {"email": "learner@example.edu", "first_name": "Bob", "last_name": "Johnson"}
    return User.objects.create_user(username, **details)


def client_of(user):
    """Return a test client that is logged in as the user."""
    client = Client()
    client.force_login(user)
    return client
