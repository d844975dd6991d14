"""The content of the fake Big Interview: exercises for mock interviews, and tracks of chapters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """The questions of a mock interview. A retake's path ends in ``number``."""

    number: int
    title: str
    about: str
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Chapter:
    """One step of a track."""

    number: int
    title: str
    text: str

    @property
    def path(self) -> str:
        return f"/members/curriculum?chapter={self.number}"


@dataclass(frozen=True)
class Track:
    """Chapters in the recommended order."""

    title: str
    chapters: tuple[Chapter, ...]


#: The first two are from Big Interview's documentation ("The interview object", "List interviews").
EXERCISES = {
    exercise.number: exercise
    for exercise in (
        Exercise(
            52,
            "Top 10 Questions",
            "What nearly every interviewer asks.",
            (
                "Tell me about yourself.",
                "Why do you want to work here?",
                "What is your greatest strength, and when did it last matter?",
            ),
        ),
        Exercise(
            443,
            "My Best Analytical Interview",
            "For roles in which numbers decide.",
            (
                "Describe a problem that you solved with data.",
                "How do you know that a figure is right?",
                "Which result surprised you, and what did you do next?",
            ),
        ),
        Exercise(
            61,
            "Nursing",
            "Patients, teams and long shifts.",
            (
                "Why did you choose nursing?",
                "Tell me about a time when a patient was upset with you.",
                "How do you set priorities when everything is urgent?",
            ),
        ),
    )
}

_ABOUT_YOURSELF = Chapter(
    5,
    "Tell me about yourself",
    "Three sentences carry the answer: where you are, what brought you here, and what you want to do next.",
)
_FUNDAMENTALS = Chapter(
    1,
    "Job Interview Fundamentals",
    "An interview is a conversation with a purpose. Know the role, know your three best stories, and listen first.",
)
_WHY_HERE = Chapter(
    6,
    "Why do you want to work here?",
    "Name one thing that only this employer has, say why it matters to you, and tie it to what you can bring.",
)
_YOUR_QUESTIONS = Chapter(
    7,
    "Your questions for the interviewer",
    "Ask what a good first year looks like. The answer tells you more about the role than its description does.",
)

#: The two tracks of "List track progress", with one more step each.
TRACKS = (
    Track("Fast Track", (_ABOUT_YOURSELF, _WHY_HERE)),
    Track("Mastery Track", (_FUNDAMENTALS, _WHY_HERE, _YOUR_QUESTIONS)),
)

CHAPTERS = {chapter.number: chapter for track in TRACKS for chapter in track.chapters}
