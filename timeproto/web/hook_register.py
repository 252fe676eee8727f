"""Which webhooks there are, which ended a moment ago, and whether there is room for one more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import I64
from timeproto.web import bounds
from timeproto.web.hook_live import LiveHook
from timeproto.web.hooks import Hook, Removal


class Register:
    """Webhooks by id and by address.

    Of a wallet's that ended the time in the last request is remembered while an older one could still be sent again:
    what was signed before is not to bring it back. So long it keeps its place, and whoever registered it pays with
    that place and not with somebody else's.
    """

    def __init__(self, removed: Mapping[str, Removal | I64]) -> None:
        """``removed``: as it was kept, with or without whose they were."""
        self._hooks: dict[str, LiveHook] = {}
        self._of: dict[str, list[LiveHook]] = {}
        self._removed = {
            hook: each if isinstance(each, Removal) else Removal(each) for hook, each in removed.items()
        }  # fmt: skip
        self._forgotten: dict[str, int] = {}
        self._forgotten_of_others = 0

    def __len__(self) -> int:
        return len(self._hooks)

    def __iter__(self) -> Iterator[LiveHook]:
        return iter(self._hooks.values())

    def get(self, hook: str) -> LiveHook | None:
        return self._hooks.get(hook)

    def of(self, address: str) -> Sequence[LiveHook]:
        """Those that are told of this address's coins."""
        return self._of.get(address, ())

    def removed(self) -> dict[str, Removal | I64]:
        """Those that ended a moment ago, to be kept."""
        return dict(self._removed)

    def removal(self, hook: str) -> Removal | None:
        return self._removed.get(hook)

    def forgotten(self, hook: str) -> int:
        """No request of this webhook that was forgotten is later than this, Unix ms: by a clock that was ahead, this
        may be not long ago, or still to come."""
        return max(self._forgotten.get(hook, 0), self._forgotten_of_others)

    def add(self, live: LiveHook) -> None:
        self._removed.pop(live.hook.hook, None)
        self._hooks[live.hook.hook] = live
        self._of.setdefault(live.hook.address, []).append(live)

    def drop(self, live: LiveHook) -> None:
        """Forgets it, but for the time of its last request."""
        hook = live.hook
        del self._hooks[hook.hook]
        beside = self._of[hook.address]
        beside.remove(live)
        if not beside:
            del self._of[hook.address]
        if hook.owner == "wallet":
            self.remember(hook)

    def remember(self, hook: Hook) -> None:
        """It has ended, and this was its last request."""
        self._removed[hook.hook] = Removal(hook.stamp, hook.address, hook.payer)

    def unmake(self, live: LiveHook, removal: Removal | None) -> None:
        """Forgets it as if it had never been; ``removal``: what was remembered in its place."""
        if self._hooks.get(live.hook.hook) is live:
            self.drop(live)
        self._removed.pop(live.hook.hook, None)
        if removal is not None:
            self._removed[live.hook.hook] = removal

    def forget(self, before: float) -> bool:
        """Forgets the times before this one, Unix ms; true if there were any."""
        old = [hook for hook, each in self._removed.items() if each.stamp < before]
        for hook in old:
            self._forgotten[hook] = self._removed.pop(hook).stamp
        # One time for all would do, were there none that a wrong clock let lie ahead: the latest are told apart.
        for hook in sorted(self._forgotten, key=self._forgotten.__getitem__)[: -bounds.WEBHOOKS]:
            self._forgotten_of_others = max(self._forgotten_of_others, self._forgotten.pop(hook))
        return bool(old)

    def require_room(self, made: Hook) -> None:
        """Raises ``over_limit`` if there is no place for one more, which this would be."""
        places: list[Hook | Removal] = [live.hook for live in self]
        places += [each for hook, each in self._removed.items() if hook != made.hook]
        of_payer = sum(each.payer == made.payer for each in places) if made.payer else 0
        for limit, most, there in (
            ("webhooks_per_address", bounds.WEBHOOKS_PER_ADDRESS, sum(each.address == made.address for each in places)),
            ("webhooks_per_block", bounds.WEBHOOKS_PER_BLOCK, of_payer),
            ("webhooks", bounds.WEBHOOKS, len(places)),
        ):
            if there >= most:
                raise Refusal(ErrorCode.OVER_LIMIT, "there are as many webhooks as there may be",
                              limit=limit, value=most)
