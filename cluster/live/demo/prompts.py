"""What the demo asks: chats of unlike lengths, greedy and seeded."""

from dataclasses import dataclass

SYSTEM = (
    "You are a patient guide in a small museum of science. You answer in plain English, you "
    "prefer short sentences, you give one example from daily life, and you say so when something "
    "is not known. Visitors are curious adults without special training. Never use a formula when "
    "a picture in words will do, and never answer with a list when a paragraph reads better."
)

STORY = (
    "Here is the logbook of a lighthouse. In January the keeper counted {0} ships and mended the "
    "lamp twice. In February fog lay on the water for eleven days, the bell was rung by hand, and "
    "a fishing boat was guided home. In March the supply boat came late and the keeper wrote that "
    "bread can be baked from almost anything. In April a school visited, and a girl asked why the "
    "lamp turns instead of simply shining. In May the gulls nested on the gallery and the keeper "
    "walked around them for five weeks. In June the glass was polished and the paint renewed. "
)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One chat of the demo. `migrate` marks the one that moves in mid-stream."""

    name: str
    question: str
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    migrate: bool = False

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [("system", SYSTEM), ("user", self.question)]


ASKS: tuple[Ask, ...] = (
    Ask(
        name="gravity",
        question="What is gravity, and why do we not fall off the Earth on the other side?",
        max_tokens=96,
        migrate=True,
    ),
    Ask(name="sky", question="Why is the sky blue in the day and red at dusk?", max_tokens=48),
    Ask(
        name="logbook",
        question=STORY.format(41) + STORY.format(57) + "Tell me what the keeper did in spring.",
        max_tokens=40,
    ),
    Ask(
        name="poem",
        question="Write four lines about a train that crosses a bridge at night.",
        max_tokens=48,
        temperature=0.8,
        seed=7,
    ),
    Ask(
        name="bread",
        question="Why does bread dough rise, and what happens if I forget the salt?",
        max_tokens=48,
        temperature=0.6,
        seed=11,
    ),
)
