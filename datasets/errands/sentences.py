"""What happens, in words: who did what with which thing where, with its time."""

from collections.abc import Callable

from vidmamba.datasets.errands.appearance import Person
from vidmamba.datasets.errands.script import Act, Errand, Passer, Script
from vidmamba.timeline import Caption

_SIDES = {-1: "left", 1: "right"}
_OWN = {"man": "his", "woman": "her", "child": "their"}

_PREDICATES: dict[str, Callable[[Errand, Act], str]] = {
    "enter": lambda errand, act: f"enters through the {_SIDES[errand.door_in]} door",
    "walk": lambda errand, act: _walks(errand, act),
    "look_around": lambda errand, act: "looks around",
    "take": lambda errand, act: (
        f"takes the {errand.thing.name} from the {_SIDES[errand.shelf]} shelf"
    ),
    "pocket": lambda errand, act: (
        f"puts the {errand.thing.name} into {_OWN[errand.person.kind]} satchel"
    ),
    "put_back": lambda errand, act: (
        f"puts the {errand.thing.name} back on the {_SIDES[errand.shelf]} shelf"
    ),
    "put_on_table": lambda errand, act: f"puts the {errand.thing.name} into the crate on the table",
    "wait": lambda errand, act: "waits",
    "leave_with_item": lambda errand, act: f"leaves with the {errand.thing.name}",
    "leave_empty_handed": lambda errand, act: "leaves empty-handed",
}


def _walks(errand: Errand, act: Act) -> str:
    to_the_shelf = act.end <= errand.handled
    return f"walks to the {_SIDES[errand.shelf]} shelf" if to_the_shelf else "walks about"


def describe_person(person: Person) -> str:
    """Return what a person is called in sentences, such as `woman in red`."""
    return f"{person.kind} in {person.clothing}"


def write_sentences(script: Script, fps: float) -> tuple[Caption, ...]:
    """Return one sentence for each act and for each passer-by, sorted by time, in seconds."""
    told = [
        (act.start, act.end, f"The {describe_person(errand.person)} {_predicate(errand, act)}.")
        for errand in script.errands
        for act in errand.acts
    ]
    told += [(*passer.seen, _passes(passer)) for passer in script.passers]
    return tuple(
        Caption(start=start / fps, end=end / fps, text=text) for start, end, text in sorted(told)
    )


def _predicate(errand: Errand, act: Act) -> str:
    return _PREDICATES[act.label](errand, act)


def _passes(passer: Passer) -> str:
    return f"A {describe_person(passer.person)} passes by."
