"""Topic names and filters (4.7): what is one, which match, and which addresses of the network they are.

The address of a topic is the prefix, `/`, and the topic; that of a filter is written in the same way, so `mqtt/a/+` is
where messages go whose topic matches `a/+`: no topic has a wildcard. A shared subscription (4.8.2) has an address that
all its subscribers in the network have in common, `mqtt$share/GROUP/FILTER`.
"""

from __future__ import annotations

from typing import Final, TypeVar

from van.adaptors.mqtt.reason import TOPIC_FILTER_INVALID, TOPIC_NAME_INVALID, MqttError
from van.routing.address import MAX_ADDRESS_LENGTH

# Levels of a topic or a filter: matching takes a step for each, and other servers stop at 128 to 200 as well.
MAX_LEVELS: Final = 128
# Characters of a topic or a filter: with a prefix and a group it has to be an address of the network.
MAX_TOPIC_LENGTH: Final = MAX_ADDRESS_LENGTH // 2
# Characters of a group's name.
MAX_GROUP_LENGTH: Final = 256

SHARE: Final = "$share"
RETAINED: Final = "$retained"
PUBLISH: Final = "$publish"
SNAPSHOT: Final = "$snapshot"

DEFAULT_PREFIX: Final = "mqtt"

V = TypeVar("V")


def check_topic(topic: str) -> None:
    """Raise MqttError for what is no topic name (4.7)."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        raise MqttError(TOPIC_NAME_INVALID, f"{topic[:80]!r} is no topic name")
    if len(topic) > MAX_TOPIC_LENGTH or topic.count("/") >= MAX_LEVELS:
        text = f"a topic of more than {MAX_TOPIC_LENGTH} characters or {MAX_LEVELS} levels"
        raise MqttError(TOPIC_NAME_INVALID, text)


def check_filter(topic_filter: str) -> None:
    """Raise MqttError for what is no topic filter (4.7.1); one of a shared subscription is looked at as any other."""
    levels = topic_filter.split("/")
    wrong = not topic_filter or "\0" in topic_filter
    for index, level in enumerate(levels):
        if level in ("+", "#"):
            wrong |= level == "#" and index < len(levels) - 1
        else:
            wrong |= "+" in level or "#" in level
    if wrong:
        raise MqttError(TOPIC_FILTER_INVALID, f"{topic_filter[:80]!r} is no topic filter")
    if len(topic_filter) > MAX_TOPIC_LENGTH or len(levels) > MAX_LEVELS:
        text = f"a filter of more than {MAX_TOPIC_LENGTH} characters or {MAX_LEVELS} levels"
        raise MqttError(TOPIC_FILTER_INVALID, text)


def split_shared(topic_filter: str) -> tuple[str, str]:
    """The group of a shared subscription (4.8.2) and its filter; no group (empty) where it is none.

    Raises MqttError for one that is not written well.
    """
    head, _, rest = topic_filter.partition("/")
    if head != SHARE:
        return "", topic_filter
    group, _, rest = rest.partition("/")
    if not group or not rest or "+" in group or "#" in group or len(group) > MAX_GROUP_LENGTH:
        raise MqttError(TOPIC_FILTER_INVALID, f"{topic_filter[:80]!r} is no shared subscription")
    return group, rest


def is_wild(topic_filter: str) -> bool:
    """Whether a filter matches more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic (4.7.1, 4.7.2)."""
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level not in ("+", levels[index])):
            return False
    return len(wanted) == len(levels)


class Addresses:
    """Which address is which topic, under one prefix. Raises ValueError for a prefix that cannot be one."""

    __slots__ = ("_under", "prefix", "publish", "retained", "shares", "snapshot")

    def __init__(self, prefix: str) -> None:
        wrong = not prefix or prefix[0] in "_$/" or prefix[-1] in "/." or ":" in prefix or is_wild(prefix)
        if wrong or len(prefix) > MAX_ADDRESS_LENGTH // 4:
            raise ValueError(f"{prefix!r} is no prefix of addresses")
        self.prefix = prefix
        self._under = prefix + "/"
        self.shares = f"{prefix}{SHARE}/"
        self.retained = prefix + RETAINED
        self.publish = prefix + PUBLISH
        self.snapshot = prefix + SNAPSHOT

    def of(self, topic: str, group: str = "") -> str:
        """The address of a topic or filter, or that of a shared subscription."""
        # One separator at the end of an address does not count, so there is one more.
        end = "/" if topic[-1:] in ("/", ".") else ""
        return f"{self.shares}{group}/{topic}{end}" if group else f"{self._under}{topic}{end}"

    def topic(self, address: str) -> str:
        """The topic or filter whose address this is; empty where it is none."""
        text = address.removeprefix("/")
        if not text.startswith(self._under):
            return ""
        text = text[len(self._under) :]
        return text[:-1] if len(text) > 1 and text[-1] in "/." else text

    def of_key(self, key: str) -> str:
        """The filter for which messages go to the address with this key; empty where the filter has no need of it.

        These are filters with wildcards, and all that are shared: messages for others go to their topic's address.
        """
        # What the core knows an address by: without one separator at the end.
        if key.startswith(self.shares, 1):
            return key[1 + len(self.shares) :].partition("/")[2]
        if key.startswith(self._under, 1):
            text = key[1 + len(self._under) :]
            return text if is_wild(text) else ""
        return ""

    def topic_of_key(self, key: str) -> str:
        """The topic whose address has this key; empty where it is none."""
        if not key.startswith(self._under, 1):
            return ""
        text = key[1 + len(self._under) :]
        return "" if is_wild(text) else text


class _Branch:
    __slots__ = ("branches", "values")

    def __init__(self) -> None:
        self.branches: dict[str, _Branch] = {}
        # By a key of whoever put them here.
        self.values: dict[str, object] = {}


class FilterTree:
    """Filters, and what is there for each: finds those that match a topic."""

    def __init__(self) -> None:
        self._root = _Branch()
        self.count = 0

    def add(self, topic_filter: str, key: str, value: object) -> None:
        """Put a value there for a filter, under a key."""
        branch = self._root
        for level in topic_filter.split("/"):
            following = branch.branches.get(level)
            if following is None:
                following = branch.branches[level] = _Branch()
            branch = following
        if key not in branch.values:
            self.count += 1
        branch.values[key] = value

    def remove(self, topic_filter: str, key: str) -> None:
        """Take a value away."""
        path = [self._root]
        levels = topic_filter.split("/")
        for level in levels:
            following = path[-1].branches.get(level)
            if following is None:
                return
            path.append(following)
        if path[-1].values.pop(key, None) is not None:
            self.count -= 1
        for level, branch, parent in zip(reversed(levels), reversed(path[1:]), reversed(path[:-1]), strict=True):
            if branch.values or branch.branches:
                break
            del parent.branches[level]

    def match(self, topic: str) -> list[object]:
        """The values of all filters that match a topic."""
        found: list[object] = []
        if self.count:
            levels = topic.split("/")
            branches = [self._root]
            # 4.7.2: a wildcard in front matches no topic that begins with $.
            wild = not topic.startswith("$")
            for level in levels:
                following = []
                for branch in branches:
                    if not branch.branches:
                        continue
                    literal = branch.branches.get(level)
                    if literal is not None:
                        following.append(literal)
                    if wild:
                        one = branch.branches.get("+")
                        if one is not None:
                            following.append(one)
                        rest = branch.branches.get("#")
                        if rest is not None:
                            found += rest.values.values()
                wild = True
                branches = following
            for branch in branches:
                found += branch.values.values()
                # `a/#` matches `a` as well (4.7.1.2).
                rest = branch.branches.get("#")
                if rest is not None:
                    found += rest.values.values()
        return found


class TopicTree:
    """Topics, and one value for each: finds those that a filter matches."""

    def __init__(self) -> None:
        self._root = _Branch()

    def put(self, topic: str, value: object) -> None:
        """Put a value there for a topic."""
        branch = self._root
        for level in topic.split("/"):
            following = branch.branches.get(level)
            if following is None:
                following = branch.branches[level] = _Branch()
            branch = following
        branch.values[""] = value

    def remove(self, topic: str) -> None:
        """Take a topic away."""
        path = [self._root]
        levels = topic.split("/")
        for level in levels:
            following = path[-1].branches.get(level)
            if following is None:
                return
            path.append(following)
        path[-1].values.clear()
        for level, branch, parent in zip(reversed(levels), reversed(path[1:]), reversed(path[:-1]), strict=True):
            if branch.values or branch.branches:
                break
            del parent.branches[level]

    def match(self, topic_filter: str) -> list[object]:
        """The values of all topics that a filter matches."""
        branches = [self._root]
        for index, level in enumerate(topic_filter.split("/")):
            following: list[_Branch] = []
            for branch in branches:
                if level in ("+", "#"):
                    following += [
                        other for name, other in branch.branches.items() if index or not name.startswith("$")
                    ]
                else:
                    literal = branch.branches.get(level)
                    if literal is not None:
                        following.append(literal)
            if level == "#":
                if index:
                    # The level above belongs to it (4.7.1.2).
                    following += branches
                return _below(branches, following)
            branches = following
        return [value for branch in branches for value in branch.values.values()]


def _below(above: list[_Branch], branches: list[_Branch]) -> list[object]:
    """The values of these branches and of all below them; of those above that are among them nothing below."""
    upper = set(map(id, above))
    found: list[object] = []
    waiting = list(branches)
    while waiting:
        branch = waiting.pop()
        found += branch.values.values()
        if id(branch) not in upper:
            waiting += branch.branches.values()
    return found
