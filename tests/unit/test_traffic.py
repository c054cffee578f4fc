# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting a master's traffic in the log that a real rsync writes: each line once, and nothing that a client wrote as a label."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ENGINE, free_port, wait_until, wait_until_served
from mirrornet import lock, traffic
from mirrornet.cli import main
from mirrornet.errors import Failure

ODD = 'odd "name"\\'
CONFIG = """use chroot = no
address = 127.0.0.1
port = {port}
lock file = {base}/lock
log file = {base}/log
[tree]
path = {base}/tree
[two words]
path = {base}/tree
[{odd} ]
path = {base}/tree
[login]
path = {base}/tree
auth users = joe
secrets file = {base}/secrets
[closed]
path = {base}/tree
hosts deny = *
[full]
path = {base}/tree
max connections = -1
[in]
path = {base}/in
read only = no
write only = yes
[hook]
path = {base}/tree
pre-xfer exec = /bin/true
[broken hook]
path = {base}/tree
pre-xfer exec = /bin/false
[gone]
path = {base}/gone
[picky]
path = {base}/tree
refuse options = checksum
"""


class Server:
    """A daemon with a log file, and the command that counts in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port = free_port()
        self.log = base / "log"
        self.config = base / "rsyncd.conf"
        self.output = base / "metrics" / "rsync.prom"
        for name in ("tree", "in", "metrics", "client"):
            (base / name).mkdir()
        # Started by root, the server writes as nobody.
        (base / "in").chmod(0o777)
        (base / "tree" / "file").write_text("x" * 1000)
        for name, content in (("secrets", "joe:secret\n"), ("wrong", "wrong\n")):
            (base / name).write_text(content)
            (base / name).chmod(0o600)
        self.config.write_text(CONFIG.format(port=self.port, base=base, odd=ODD))
        self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={self.config}"])
        wait_until(lambda: self.rsync(self.url()) == 0, "the daemon")

    def url(self, path: str = "") -> str:
        return f"rsync://127.0.0.1:{self.port}/{path}"

    def rsync(self, *words: str) -> int:
        """Run a client, and wait until the server has said its last word about it."""
        done = subprocess.run(["rsync", "--timeout=30", *words], capture_output=True, check=False, cwd=self.base / "client")
        wait_until_served(self.process)
        return done.returncode

    def command(self) -> list[str]:
        words = ["traffic", f"--config={self.config}", f"--log-file={self.log}", f"--output={self.output}"]
        return [sys.executable, "-m", "mirrornet", "--state-dir", str(self.base / "state"), *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ENGINE)}

    def count(self) -> dict[str, int]:
        """Run the command; returns the counters that it wrote."""
        done = subprocess.run(self.command(), env=self.environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return counters(self.output.read_text(encoding="utf-8"))

    def state(self) -> dict[str, object]:
        value: dict[str, object] = json.loads((self.base / "state" / "traffic.json").read_text())
        return value


def counters(text: str) -> dict[str, int]:
    """The samples of a text in Prometheus' format, which must be nothing else."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP|TYPE) mirrornet_rsync_\w+_total .+", line), line
            continue
        label = r'\w+="(?:[^"\\]|\\[\\"n])*"'
        sample = re.fullmatch(rf"mirrornet_rsync_(\w+)_total((?:\{{{label}(?:,{label})*\}})?) (\d+)", line)
        assert sample, line
        assert sample[1] + sample[2] not in found, line
        found[sample[1] + sample[2]] = int(sample[3])
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    # Counting begins with the first call.
    assert started.count() == {"connections": 0, "listings": 0, "log_gaps": 0}
    yield started
    started.process.terminate()
    started.process.wait()


def since(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def test_downloads_and_uploads_count_by_module(server: Server) -> None:
    assert server.rsync(server.url("tree/file"), "got") == 0
    first = server.count()
    assert (server.base / "client" / "got").stat().st_size == 1000
    assert first['sent_bytes{module="tree"}'] >= 1000
    assert first['received_bytes{module="tree"}'] > 0
    assert (first["connections"], first['requests{module="tree",direction="download"}']) == (1, 1)
    assert server.count() == first
    server.rsync(server.url())
    server.rsync("got", server.url("in/"))
    server.rsync(server.url("two words/file"), server.url("hook/file"), "client2")
    more = since(server.count(), first)
    assert more["listings"] == 1
    assert more['requests{module="in",direction="upload"}'] == 1
    assert more['received_bytes{module="in"}'] >= 1000


@pytest.mark.parametrize("module", ["two words", "hook", ODD])
def test_modules_of_every_kind_are_known_by_name(server: Server, module: str) -> None:
    assert server.rsync(server.url(f"{module}/file"), "got") == 0
    label = module.replace("\\", "\\\\").replace('"', '\\"')
    found = server.count()
    assert found[f'requests{{module="{label}",direction="download"}}'] == 1
    assert found[f'sent_bytes{{module="{label}"}}'] >= 1000


REFUSED = [
    ("unknown_module", "other", ["nonesuch/"]),
    ("host", "closed", ["closed/"]),
    ("login", "login", ["--password-file=../wrong", "login/"]),
    ("full", "full", ["full/"]),
    ("read_only", "tree", ["../wrong", "tree/"]),
    ("write_only", "in", ["in/wrong", "."]),
    ("option", "picky", ["--checksum", "picky/file", "."]),
    ("hook", "broken hook", ["broken hook/file", "."]),
    ("no_tree", "gone", ["gone/file", "."]),
]


@pytest.mark.parametrize(("reason", "module", "words"), REFUSED, ids=[reason for reason, *dummy in REFUSED])
def test_refusals_count_by_reason(server: Server, reason: str, module: str, words: list[str]) -> None:
    address = server.url().replace("//", "//joe@") if reason == "login" else server.url()
    place = next(number for number, word in enumerate(words) if re.match(r"\w.*/", word))
    assert server.rsync(*words[:place], address + words[place], *words[place + 1 :]) != 0
    found = server.count()
    assert found[f'refusals{{module="{module}",reason="{reason}"}}'] == 1
    assert sum(value for name, value in found.items() if name.startswith("refusals")) == 1


def test_words_of_clients_are_no_labels_and_no_lines(server: Server) -> None:
    forged = "2026/01/01 00:00:00 [1] rsync denied on module tree from x (192.0.2.1)"
    server.rsync(server.url(f"tree/a\n{forged}\n"), "got")
    server.rsync(server.url('evil"} 1\nevil{a="'), "got")
    server.rsync(server.url("nonesuch' tried from x (192.0.2.1)"), "got")
    server.rsync("--password-file=../secrets", server.url("login/file").replace("//", "//a from b (192.0.2.1) for c@"), "got")
    text = server.output.read_text(encoding="utf-8")
    found = server.count()
    assert "evil" not in text + server.output.read_text(encoding="utf-8")
    assert found['refusals{module="other",reason="unknown_module"}'] == 2
    # Before 3.5.0 rsync wrote a client's line ends into its log file: such a line counts, under a label that is ours. The journal keeps it one entry.
    assert ('refusals{module="tree",reason="host"}' in found) == ("\n2026/01/01" in server.log.read_text())
    assert found['refusals{module="login",reason="login"}'] == 1


def test_a_transfer_that_breaks_off_counts_what_was_sent(server: Server) -> None:
    with (server.base / "tree" / "big").open("wb") as file:
        file.truncate(1 << 30)
    command = ["rsync", "--bwlimit=4000", server.url("tree/big"), "got"]
    client = subprocess.Popen(command, cwd=server.base / "client", stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: any(path.stat().st_size for path in (server.base / "client").glob(".got.*")), "the transfer")
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    wait_until(lambda: server.log.read_text().count("tree/big") and "sent " in server.log.read_text().split("tree/big")[1], "its end")
    assert server.count()['sent_bytes{module="tree"}'] > 0


def test_rotation_loses_nothing(server: Server) -> None:
    server.rsync(server.url("tree/file"), "got")
    before = server.count()
    server.rsync(server.url("tree/file"), "got")
    server.log.rename(server.base / "log.1")
    # Not yet written again: what the old file has is taken all the same.
    assert since(server.count(), before)["connections"] == 1
    server.rsync(server.url("tree/file"), "got")
    server.rsync(server.url("tree/file"), "got")
    after = since(server.count(), before)
    assert (after["connections"], after['requests{module="tree",direction="download"}']) == (3, 3)
    assert "log_gaps" not in after
    assert server.count()["connections"] == before["connections"] + 3


def test_what_is_gone_is_said_and_counting_goes_on(server: Server) -> None:
    server.rsync(server.url("tree/file"), "got")
    before = server.count()
    for number in (1, 2):
        server.log.replace(server.base / f"former-{number}")
        server.rsync(server.url("tree/file"), "got")
    after = since(server.count(), before)
    assert (after["connections"], after["log_gaps"]) == (1, 1)
    os.truncate(server.log, 0)
    server.rsync(server.url())
    assert since(server.count(), before)["log_gaps"] == 2


def test_a_line_that_is_still_being_written_waits(server: Server) -> None:
    before = server.count()
    with server.log.open("a") as log:
        log.write("2026/01/01 00:00:00 [7] connect from x ")
        log.flush()
        assert server.count() == before
        log.write("(192.0.2.1)\n")
    assert since(server.count(), before) == {"connections": 1}


def test_killed_at_any_moment_each_line_counts_once(server: Server) -> None:
    number = 60000
    lines = "2026/01/01 00:00:00 [7] connect from x (192.0.2.1)\n2026/01/01 00:00:00 [7] sent 3 bytes  received 2 bytes  total size 1\n"
    with server.log.open("a") as log:
        log.write(lines * number)
    kills = random.Random(4)
    for dummy in range(6):
        process = subprocess.Popen(server.command(), env=server.environment())
        time.sleep(kills.uniform(0.1, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert counters(server.output.read_text()).get("connections", 0) <= number
    found = server.count()
    assert (found["connections"], found['sent_bytes{module="other"}'], found['received_bytes{module="other"}']) == (
        number,
        3 * number,
        2 * number,
    )
    assert sorted(path.name for path in server.output.parent.iterdir()) == ["rsync.prom"]


def test_a_torn_state_begins_anew_instead_of_failing(server: Server) -> None:
    server.rsync(server.url("tree/file"), "got")
    server.count()
    (server.base / "state" / "traffic.json").write_text("{")
    assert server.count()["connections"] == 0


def test_the_number_of_labels_and_of_open_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MOST_MODULES", 50)
    monkeypatch.setattr(traffic, "MOST_OPEN", 200)
    state = traffic.State()
    known = [f"m{number}" for number in range(2 * traffic.MOST_MODULES)]
    for number, name in enumerate(known):
        traffic.count(state, str(number), f"rsync on {name}/ from x (192.0.2.1)", known)
    assert len(state.counters) == traffic.MOST_MODULES + 1
    for number in range(2 * traffic.MOST_OPEN):
        traffic.count(state, str(number), "rsync on m1/ from x (192.0.2.1)", known)
    assert len(state.serving) == traffic.MOST_OPEN
    assert str(2 * traffic.MOST_OPEN - 1) in state.serving


def test_the_journal_is_read_from_where_it_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for journalctl; a scenario has the real one."""
    entries = [
        {"__CURSOR": "c1", "MESSAGE": "something else"},
        {"__CURSOR": "c2", "MESSAGE": "connect from x (192.0.2.1)", "_PID": "7", "_SYSTEMD_UNIT": "mirrornet-rsyncd@1.service"},
        {"__CURSOR": "c3", "MESSAGE": "rsync on tree/\n from x (192.0.2.1)", "_PID": "7", "_SYSTEMD_UNIT": "mirrornet-rsyncd@1.service"},
        {"__CURSOR": "c4", "MESSAGE": "connect from x (192.0.2.1)", "_PID": "8", "_SYSTEMD_UNIT": "user@1000.service"},
        {
            "__CURSOR": "c5",
            "MESSAGE": list(b"unknown module '\xff' tried from x"),
            "_PID": "9",
            "_SYSTEMD_UNIT": "mirrornet-rsyncd@1.service",
        },
        {"__CURSOR": "c6", "MESSAGE": None, "_PID": "7", "_SYSTEMD_UNIT": "mirrornet-rsyncd@1.service"},
    ]
    fake = tmp_path / "bin" / "journalctl"
    fake.parent.mkdir()
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\nentries = json.loads({json.dumps(json.dumps(entries))})\n"
        "after = [word.partition('=')[2] for word in sys.argv if word.startswith('--after-cursor=')]\n"
        "if after == ['bad']:\n    sys.exit('Failed to seek to cursor')\n"
        "shown = [e for e in entries if e['__CURSOR'] > after[0]] if after else entries[:1]\n"
        "print('\\n'.join(map(json.dumps, shown)))\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
    config = tmp_path / "rsyncd.conf"
    config.write_text("[tree]\npath = /srv\n")

    def update() -> dict[str, int]:
        read = traffic.journal(["mirrornet-rsyncd@*"], "rsyncd")
        return counters(traffic.update(tmp_path / "state", config, lambda configuration: read, None).decode())

    assert update()["connections"] == 0
    assert json.loads((tmp_path / "state/traffic.json").read_text())["place"] == {"cursor": "c1"}
    found = update()
    assert found["connections"] == 1
    assert found['requests{module="tree",direction="download"}'] == 1
    assert found['refusals{module="other",reason="unknown_module"}'] == 1
    assert json.loads((tmp_path / "state/traffic.json").read_text())["place"] == {"cursor": "c6"}
    state = traffic.load(tmp_path / "state" / "traffic.json")
    state.place = {"cursor": "bad"}
    (tmp_path / "state" / "traffic.json").write_bytes(state.to_bytes())
    with pytest.raises(Failure, match="Failed to seek to cursor"):
        update()


def test_what_keeps_it_from_counting_is_said(tmp_path: Path) -> None:
    config = tmp_path / "rsyncd.conf"
    read = traffic.log_file(tmp_path / "log")
    with pytest.raises(Failure, match=r"No such file or directory\. Name the server's rsyncd.conf"):
        traffic.update(tmp_path / "state", config, lambda configuration: read, None)
    config.write_text("[tree]\npath = /srv\n")
    (tmp_path / "state").mkdir()
    with lock.exclusive(tmp_path / "state" / "traffic.lock"), pytest.raises(Failure, match="is being read already"):
        traffic.update(tmp_path / "state", config, lambda configuration: read, None)
    with pytest.raises(Failure, match=r"nowhere.*The next call goes on"):
        traffic.update(tmp_path / "state", config, lambda configuration: read, tmp_path / "nowhere" / "x.prom")


def test_when_trees_were_last_looked_at(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    config = tmp_path / "rsyncd.conf"
    config.write_text(f"log file = {tmp_path}/log\n")
    for name in ("a", 'b-"c'):
        state = tmp_path / "states" / f"publish-{name}" / "state.json"
        state.parent.mkdir(parents=True)
        state.touch()
        os.utime(state, (1_800_000_000, 1_800_000_000))
    (tmp_path / "states" / "publish-new").mkdir()
    words = ["traffic", "--config", str(config), "--log-file", str(tmp_path / "log"), "--output", str(tmp_path / "out")]
    for published in ([], ["--published", str(tmp_path / "states")]):
        assert main(["--state-dir", str(tmp_path / "state"), *words, *published]) == 0
        lines = [line for line in (tmp_path / "out").read_text().splitlines() if line.startswith("mirrornet_publish_")]
        metric = "mirrornet_publish_last_success_timestamp_seconds"
        assert lines == ([f'{metric}{{name="a"}} 1800000000', f'{metric}{{name="b-\\"c"}} 1800000000'] if published else [])
