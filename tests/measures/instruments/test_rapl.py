from __future__ import annotations

import time

import pytest

from secateurs.measures.instruments.rapl import Domain, Rapl


def _domain(root, where, name, microjoules, wraps_at=1_000_000):
    path = root / where
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return path


@pytest.fixture
def machine(tmp_path):
    """Two packages; cores and memory inside the first; the whole platform beside them."""
    return {
        "package-0": _domain(tmp_path, "intel-rapl:0", "package-0", 100),
        "core": _domain(tmp_path, "intel-rapl:0:0", "core", 50),
        "dram": _domain(tmp_path, "intel-rapl:0:1", "dram", 10),
        "package-1": _domain(tmp_path, "intel-rapl:1", "package-1", 999_000),
        "psys": _domain(tmp_path, "intel-rapl:2", "psys", 5),
        "mmio": _domain(tmp_path, "intel-rapl-mmio:0", "package-0", 100),
    }


def test_packages_and_memory_are_summed_and_nothing_twice(machine, tmp_path):
    cpu = Rapl.open(tmp_path)
    assert [d.label for d in cpu.domains] == ["package-0", "dram", "package-1"]
    stop = cpu.start()
    for path in machine.values():
        (path / "energy_uj").write_text("999500")
    assert stop() == pytest.approx((999_400 + 999_490 + 500) / 1e6)
    assert cpu.scope == "the machine's package-0, dram, package-1, every program and idle power included"


def test_counter_that_started_again(machine, tmp_path):
    stop = Rapl.open(tmp_path).start()
    (machine["package-1"] / "energy_uj").write_text("2000")
    assert stop() == pytest.approx(3000 / 1e6)


def test_long_window_is_read_in_between(machine, tmp_path, monkeypatch):
    reads, read = [], Domain.read

    def noted(domain):
        value = read(domain)
        reads.append((domain.label, value))
        return value

    cpu = Rapl(Rapl.open(tmp_path).domains, poll=0.001)
    monkeypatch.setattr(Domain, "read", noted)
    stop = cpu.start()
    for value in (500_000, 100, 600_000, 100):  # round twice: 2 x wraps_at
        _written(machine["package-0"], value)
        while ("package-0", value) not in reads[-6:]:
            time.sleep(0.001)
        reads.clear()
    assert stop() == pytest.approx(2.0)


def _written(path, value):
    """Replace the number at once, as the kernel does: a file is empty for a moment while it is written."""
    (path / "new").write_text(str(value))
    (path / "new").rename(path / "energy_uj")


def test_counters_of_root_alone_are_no_counters(machine, tmp_path):
    assert Domain.at(machine["package-0"]) is not None
    for name in ("package-0", "package-1"):
        (machine[name] / "energy_uj").unlink()
        (machine[name] / "energy_uj").mkdir()  # cannot be read, by root either
    assert Domain.at(machine["package-0"]) is None
    assert Rapl.open(tmp_path) is None


def test_no_powercap(tmp_path):
    assert Rapl.open(tmp_path / "none") is None
