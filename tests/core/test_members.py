"""Who is in the cluster, as one node sees it."""

from hypothesis import given
from hypothesis import strategies as st

from skyloom import Address
from skyloom.cluster.members import GONE_MAX, SILENT_TICKS_MAX, Members


def make() -> tuple[Members, list[str]]:
    lost: list[str] = []
    return Members(lost.append), lost


def test_an_incarnation_that_was_lost_stays_lost() -> None:
    members, lost = make()
    assert members.admit("a", 5)
    members.lose("a")
    assert lost == ["a"]
    assert not members.admit("a", 5)
    assert not members.admit("a", 4)
    assert members.admit("a", 6)
    assert lost == ["a"]


def test_a_later_incarnation_is_heard_only_after_the_earlier_is_lost() -> None:
    seen: list[tuple[str, int]] = []
    members = Members(lambda node: seen.append((node, members.incarnation(node))))
    assert members.admit("a", 5)
    assert members.admit("a", 7)
    assert seen == [("a", 0)]
    assert members.incarnation("a") == 7
    assert not members.admit("a", 5)  # what was under way


def test_a_silent_node_is_lost() -> None:
    members, lost = make()
    members.admit("a", 1)
    members.admit("b", 2)
    for _ in range(SILENT_TICKS_MAX):
        assert members.tick() == []
    members.admit("b", 2)
    assert members.tick() == lost == ["a"]
    assert list(members) == ["b"]


def test_goodbye_of_an_earlier_life_ends_nothing() -> None:
    members, lost = make()
    members.admit("a", 3)
    members.left("a", 2)
    members.left("b", 1)
    assert lost == []
    members.left("a", 3)
    assert lost == ["a"]


def test_names_go_with_their_node_and_the_newest_counts() -> None:
    members, _ = make()
    members.admit("a", 1)
    members.admit("b", 2)
    members.named("b", {"HUB": 7, "ONLY": 8})
    assert members.find("HUB") == Address("b", 7)
    members.named("a", {"HUB": 3})
    members.named("b", {"HUB": 7})  # again: nothing new
    assert members.find("HUB") == Address("a", 3)
    assert members.find("ONLY") is None
    members.named("b", {"HUB": 9})
    assert members.find("HUB") == Address("b", 9)
    members.lose("b")
    assert members.find("HUB") == Address("a", 3)


def test_nodes_that_have_gone_are_not_remembered_for_ever() -> None:
    members, _ = make()
    for number in range(GONE_MAX + 5):
        members.admit(f"n{number}", 1)
        members.lose(f"n{number}")
    assert len(members._gone) == GONE_MAX
    assert not members.admit(f"n{GONE_MAX}", 1)


@given(st.lists(st.tuples(st.sampled_from(["admit", "left", "tick"]), st.sampled_from("ab"), st.integers(1, 6))))
def test_incarnations_of_a_node_only_grow_and_each_is_lost_once(steps: list[tuple[str, str, int]]) -> None:
    ended: list[tuple[str, int]] = []
    living: dict[str, int] = {}

    def lost(node: str) -> None:
        ended.append((node, living.pop(node)))

    members = Members(lost)
    for what, node, incarnation in steps:
        if what == "admit":
            before = living.get(node, max((n for who, n in ended if who == node), default=0))
            if members.admit(node, incarnation):
                assert incarnation > before or living.get(node) == incarnation
                living[node] = incarnation
            else:
                assert incarnation <= before
        elif what == "left":
            members.left(node, incarnation)
        else:
            members.tick()
        assert {name: members.incarnation(name) for name in members} == living
    assert len(ended) == len(set(ended))
