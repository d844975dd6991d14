"""The students of the demo, all of them fictional, and their user accounts."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from example_project.portal.models import Student

#: Name, Big Interview partner id, Innovative Educators customer id (with leading zeros), e-mail.
STUDENTS = (
    ("Mara Quillfeather", "stu-1001", "000010017", "mara.quillfeather@students.example"),
    ("Tobias Ostrowind", "stu-1002", "000010024", "tobias.ostrowind@students.example"),
    ("Amina Belvoir-Sato", "stu-1003", "000010031", "amina.belvoir-sato@students.example"),
    ("Juniper Halloway", "stu-1004", "000010048", "juniper.halloway@students.example"),
    ("Óscar Valdemoor", "stu-1005", "000010055", "oscar.valdemoor@students.example"),
    ("Linh Thorncastle", "stu-1006", "000010062", "linh.thorncastle@students.example"),
)


def ensure_students() -> list[Student]:
    """Add the students that are missing, and return all of them."""
    return [
        Student.objects.get_or_create(
            partner_id=partner_id, defaults={"name": name, "external_id": external_id, "email": email}
        )[0]
        for name, partner_id, external_id, email in STUDENTS
    ]


def user_of(student: Student) -> User:
    """Return the user that the student signs in as. A new one is created without a password."""
    if student.user is None:
        first_name, _space, last_name = student.name.partition(" ")
        student.user = get_user_model().objects.create_user(
            f"student-{student.pk}", email=student.email, first_name=first_name, last_name=last_name
        )
        student.save(update_fields=["user"])
    return student.user
