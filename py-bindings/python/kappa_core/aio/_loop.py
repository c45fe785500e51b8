"""Calls on an event loop: answers wake the loop through a socket it listens to."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from .._kappa_core import Bridge, Call
from ..errors import UnsupportedError

_bridges: WeakKeyDictionary[asyncio.AbstractEventLoop, Bridge] = WeakKeyDictionary()


def _bridge(loop: asyncio.AbstractEventLoop) -> Bridge:
    bridge = _bridges.get(loop)
    if bridge is None:
        bridge = Bridge()
        try:
            # The loop keeps the bridge, and the bridge does not keep the loop: both go together.
            loop.add_reader(bridge.fileno(), bridge.drain)
        except NotImplementedError:
            raise UnsupportedError("this event loop cannot listen to a socket; use one that has add_reader") from None
        _bridges[loop] = bridge
    return bridge


async def answer(call: Call) -> Any:
    """The answer of `call`."""
    loop = asyncio.get_running_loop()
    bridge = _bridge(loop)
    future: asyncio.Future[Any] = loop.create_future()
    number = bridge.start(call, future)
    if future.done():
        return future.result()
    try:
        return await future
    finally:
        # Does nothing once the answer has come; without it a task that is cancelled would leave its call behind.
        bridge.forget(number)
