from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from secateurs.measures.instruments.load_model import LoadModel

pytest.importorskip("codecarbon")


def _busy(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))


def test_reads_joules_quietly_and_without_a_network(monkeypatch, tmp_path, capfd):
    def refuse(*args, **kwargs):
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    before = set(threading.enumerate())
    model = LoadModel.open()
    stop = model.start()
    _busy(0.3)
    joules = stop()
    assert joules > 0
    assert (model.name, model.how) == ("codecarbon", "modelled")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= before


def test_windows_lie_within_each_other():
    model = LoadModel.open()
    outer = model.start()
    _busy(0.2)
    inner = model.start()
    _busy(0.2)
    within = inner()
    assert 0 < within < outer()


def test_none_where_codecarbon_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    assert LoadModel.open() is None
