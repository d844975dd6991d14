"""Encryption of the Partner API keys. Unlike webhook keys, they are sent to the API, so a digest is not enough."""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings as django_settings
from django.views.decorators.debug import sensitive_variables

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import UndecryptableKey

#: Binds the derived keys to this use of the secrets. Another text would derive other keys.
PURPOSE = b"django_bi_integration: Partner API keys"


@sensitive_variables()
def encrypt(text: str) -> str:
    """Return ``text``, encrypted with the newest key."""
    return _newest().encrypt(text.encode()).decode()


@sensitive_variables()
def decrypt(stored: str) -> str:
    """Return the text that was encrypted; raise UndecryptableKey if no key decrypts ``stored``."""
    ring = MultiFernet([_fernet(secret) for secret in _secrets()])
    try:
        return ring.decrypt(stored).decode()
    except (InvalidToken, ValueError):  # ValueError: ``stored`` is not text that encrypt() returned
        raise UndecryptableKey(
            "The stored API key cannot be decrypted: the key that encrypted it is neither in"
            " BI_INTEGRATION['ENCRYPTION_KEYS'] nor Django's SECRET_KEY or one of its fallbacks. Put it back there, or"
            " enter the API key again in the admin."
        ) from None


def is_current(stored: str) -> bool:
    """Return whether ``stored`` was encrypted with the newest key."""
    try:
        _newest().decrypt(stored)
    except (InvalidToken, ValueError):
        return False
    return True


def _secrets() -> list[str | bytes]:
    return [*settings.ENCRYPTION_KEYS, django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]


def _newest() -> Fernet:
    return _fernet(_secrets()[0])


@lru_cache(maxsize=16)
@sensitive_variables()
def _fernet(secret: str | bytes) -> Fernet:
    material = secret.encode() if isinstance(secret, str) else secret
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(material)
    return Fernet(base64.urlsafe_b64encode(derived))
