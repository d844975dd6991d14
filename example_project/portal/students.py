"""The students that this portal knows from the start, all of them invented, and how to find or add others."""

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from example_project.portal.models import Student

#: Name, Big Interview partner id, Innovative Educators customer id (leading zeros and all), e-mail.
DEMO_STUDENTS = (
    ("Mara Quillfeather", "stu-1001", "000010017", "mara.quillfeather@students.example"),
    ("Tobias Ostrowind", "stu-1002", "000010024", "tobias.ostrowind@students.example"),
    ("Amina Belvoir-Sato", "stu-1003", "000010031", "amina.belvoir-sato@students.example"),
    ("Juniper Halloway", "stu-1004", "000010048", "juniper.halloway@students.example"),
    ("Óscar Valdemoor", "stu-1005", "000010055", "oscar.valdemoor@students.example"),
    ("Linh Thorncastle", "stu-1006", "000010062", "linh.thorncastle@students.example"),
)


def ensure_students() -> list[Student]:
    """Add those of the demo students that are missing, and return all of them."""
    return [
        Student.objects.get_or_create(
            partner_id=partner_id, defaults={"name": name, "external_id": external_id, "email": email}
        )[0]
        for name, partner_id, external_id, email in DEMO_STUDENTS
    ]


def student_by_partner_id(partner_id: str) -> Student:
    """The student whom Big Interview means; a placeholder where nobody has that id."""
    return Student.objects.get_or_create(
        partner_id=partner_id, defaults={"name": _unknown(partner_id), "is_known": False}
    )[0]


def student_by_external_id(external_id: str, *, email: str) -> Student:
    """The student whom Innovative Educators means; a placeholder where nobody has that id."""
    return Student.objects.get_or_create(
        external_id=external_id, defaults={"name": _unknown(external_id), "email": email, "is_known": False}
    )[0]


def partner_id(user: AbstractBaseUser) -> str:
    """What a user is called at Big Interview (the setting ``PARTNER_ID``); nothing for those who are no students."""
    return Student.objects.filter(user_id=user.pk).values_list("partner_id", flat=True).first() or ""


def partner_user(partner_id: str) -> AbstractBaseUser | None:
    """And back (the setting ``PARTNER_USER``)."""
    return get_user_model().objects.filter(student__partner_id=partner_id).first()


def user_of(student: Student) -> User:
    """The user that a student signs in as, made where there is none yet; nobody has a password for it."""
    if student.user is None:
        first_name, _space, last_name = student.name.partition(" ")
        student.user = get_user_model().objects.create_user(
            f"student-{student.pk}", email=student.email, first_name=first_name, last_name=last_name
        )
        student.save(update_fields=["user"])
    return student.user


def _unknown(identifier: str) -> str:
    return (_("Unknown (%(identifier)s)") % {"identifier": identifier})[:200]
