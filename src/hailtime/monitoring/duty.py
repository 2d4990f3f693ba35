"""On duty: read the log on, look at the rules, tell what began and what is over; again and again.

    duty = Duty(watch, rules, tellers)
    duty.once(time.time())

What it knows is in the store, so it goes on after a restart where it was and tells nothing twice.
"""

from collections.abc import Callable, Sequence

from hailtime.monitoring.alerts import AlertBook, Message, Rule
from hailtime.monitoring.lookout import Lookout
from hailtime.monitoring.telling import Teller, tell
from hailtime.monitoring.watch import Watch


class Duty:
    """Keeps a watch and an alert book.

    - released_s: when the live version last changed, None if nobody knows
    - before: who was on duty until another version became live
    """

    def __init__(
        self,
        watch: Watch,
        rules: Sequence[Rule],
        tellers: Sequence[Teller],
        released_s: Callable[[], float | None] = lambda: None,
        before: "Duty | None" = None,
    ) -> None:
        self.watch, self.tellers, self.released_s = watch, tellers, released_s
        self.lookout: Lookout = Lookout(watch.source, watch.model, rules, before.lookout if before else None)
        self.book = AlertBook(rules, watch.store.state("alerts", {}))

    def once(self, now_s: float) -> list[Message]:
        """One pass; what was told. LogError when the log or the store cannot be used: try again."""
        self.watch.read_on()
        situation = self.lookout.at(now_s)
        messages = self.book.look(situation, self.released_s())
        for message in messages:
            tell(self.tellers, message, {"source": self.watch.model.schema.source})
        told = self.watch.store.state("messages", []) + [_plain(message) for message in messages]
        measures = {name: [measure.value, measure.n, *measure.about] for name, measure in situation.measures.items()}
        self.watch.store.set_state(
            pace=self.watch.source.pace(now_s),
            alerts=self.book.to_dict(),
            measures=measures,
            notes=situation.notes,
            messages=told[-500:],
        )
        return messages


def _plain(message: Message) -> dict[str, object]:
    cause = {"cause": message.cause.kind, "next_command": message.cause.next_command}
    return {"kind": message.kind, "at_s": message.at_s, "alerts": message.alerts, "text": message.text, **cause}
