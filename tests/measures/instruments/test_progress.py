from __future__ import annotations

import logging

from secateurs.measures.instruments.progress import Pulse


def test_speaks_at_most_once_a_second(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pulse = Pulse(logging.getLogger("secateurs.test"))
    with caplog.at_level(logging.INFO, "secateurs.test"):
        for now[0] in (0.0, 0.9, 1.0, 1.5, 1.9, 2.0, 7.0, 7.1):
            pulse.say("at %.1f", now[0])
    assert caplog.messages == ["at 1.0", "at 2.0", "at 7.0"]
