# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded network: a master and two mirrors, provisioned from nothing. Called by `make demo` and its relatives.

Runs at the top of the checkout, inside tests/hosts/enter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

NETWORK = "mirrornet-demo"
INVENTORY = "inventories/demo"
MASTER = "master1"
MIRRORS = ("mirror1", "mirror2")
JOB = "demo"
PUBLISHED = "/srv/demo"
MIRRORED = "/srv/mirror/demo"
# The file of the master's tree that the demo changes.
NEWS = "NEWS-of-the-demo.txt"
# cron starts a run every minute; the run itself takes seconds.
PATIENCE_SECONDS = 240

# One digest for names, content, modes, links and times (whole seconds) of the tree in the directory $1, but for the mirror's own records.
DIGEST = """
cd "$1" && find . -mindepth 1 -maxdepth 1 ! -name .mirrornet -print0 | LC_ALL=C sort --zero-terminated |
    tar --create --null --files-from=- --sort=name --format=gnu --hard-dereference --numeric-owner --owner=0 --group=0 | sha256sum | cut -c -12
"""
COUNT = """
cd "$1" && find . -path ./.mirrornet -prune -o -type f -printf '%s\\n' | awk '{ bytes += $1 } END { printf "%d %d\\n", NR, bytes }'
"""


class DemoError(Exception):
    """Why the demo can't go on, in a sentence for the one who started it."""


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n== {text}", flush=True)


def container(host: str) -> str:
    return f"{NETWORK}-{host}"


def on(host: str, *argv: str, check: bool = True) -> str:
    """What a command prints on a host."""
    done = subprocess.run(["podman", "exec", container(host), *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise DemoError(f"{host}: `{argv[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def script(host: str, text: str, *arguments: str) -> str:
    """What a shell script prints on a host."""
    return on(host, "sh", "-c", text, "demo", *arguments)


def play(playbook: str) -> None:
    """Run a playbook against the demo's inventory, with its output shown."""
    done = subprocess.run(["ansible-playbook", "-i", INVENTORY, playbook], stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise DemoError(f"{playbook} failed, see above. The hosts are left as they are: `make demo-login HOST={MASTER}`, `make demo-down`.")


def publish(tree: Path) -> None:
    """Put a copy of TREE on the master. It is read where the container's root is mounted, so that the master needs no rsync yet."""
    root = subprocess.run(["podman", "mount", container(MASTER)], capture_output=True, text=True, check=True).stdout.strip()
    # The master serves as an account that owns nothing: what it can't read would make every pull incomplete.
    copy = ["rsync", "--archive", "--omit-dir-times", "--delete", f"--exclude=/{NEWS}", "--chmod=a+rX", f"{tree}/", f"{root}{PUBLISHED}/"]
    if subprocess.run(copy, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise DemoError(f"{tree} could not be copied to the master, see above: choose another tree by DEMO_TREE=DIR.")


def wait_until_in_step(start: float) -> None:
    """Wait until all mirrors hold what the master holds now."""
    wanted = script(MASTER, DIGEST, PUBLISHED)
    waiting = list(MIRRORS)
    announced = start - 15
    while waiting:
        for mirror in list(waiting):
            if script(mirror, DIGEST, MIRRORED) == wanted:
                waiting.remove(mirror)
                print(f"   {mirror} has it, after {time.monotonic() - start:.0f} s", flush=True)
        if not waiting:
            return
        if time.monotonic() - start > PATIENCE_SECONDS:
            status = "\n".join(on(mirror, "mirrornet", "status", check=False) for mirror in waiting)
            raise DemoError(f"{', '.join(waiting)}: not in step with {MASTER} after {PATIENCE_SECONDS} s.\n{status}")
        now = time.monotonic()
        if now >= announced + 15:
            announced = now
            print(f"   {time.strftime('%H:%M:%S')} waiting for {' and '.join(waiting)} …", flush=True)
        time.sleep(3)


def describe(host: str) -> tuple[str, ...]:
    """A host's row in the table."""
    release = script(host, ". /etc/os-release; echo $VERSION_ID")
    rsync = script(host, "rsync --version | sed '1!d; s/^rsync *version v*//; s/ .*//'")
    path = PUBLISHED if host == MASTER else MIRRORED
    files, size = script(host, COUNT, path).split()
    state = "published here"
    if host != MASTER:
        job = json.loads(on(host, "mirrornet", "status", JOB, "--json"))["jobs"][0]
        state = f"{job['state']} {job['finished'] or ''}"
    return (host, release, rsync, path, files, f"{int(size) / 2**20:.1f} MiB", script(host, DIGEST, path), state)


def show_status() -> None:
    """Print what each host holds."""
    rows = [("HOST", "DEBIAN", "RSYNC", "TREE", "FILES", "SIZE", "DIGEST", "LAST RUN")]
    rows += [describe(host) for host in (MASTER, *MIRRORS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for mirror in MIRRORS:
        print(f"\n  {mirror}$ mirrornet status")
        print("\n".join(f"  {line}" for line in on(mirror, "mirrornet", "status").splitlines()))
    sys.stdout.flush()


def up() -> None:
    """Provision everything, and watch a change arrive."""
    start = time.monotonic()
    tree = Path(os.environ.get("DEMO_TREE") or "/usr/share/doc").resolve()
    if not tree.is_dir() or not any(tree.iterdir()):
        raise DemoError(f"{tree} is no directory with something in it: choose a tree by `make demo DEMO_TREE=DIR`.")

    say(f"Start {MASTER}, {', '.join(MIRRORS)}: three fresh Debians in containers")
    play("molecule/shared/create.yml")

    say(f"Put the tree that {MASTER} is to publish there: a copy of {tree}")
    on(MASTER, "mkdir", "-p", PUBLISHED)
    publish(tree)

    say(f"Provision the network: ansible-playbook -i {INVENTORY} playbooks/site.yml")
    play("playbooks/site.yml")

    say(f"First copy, by hand instead of by cron: ansible-playbook -i {INVENTORY} playbooks/pull_mirrors.yml")
    play("playbooks/pull_mirrors.yml")
    wait_until_in_step(time.monotonic())

    say(f"Change the tree on {MASTER}, and wait: cron on the mirrors is to notice, within about a minute")
    on(MASTER, "sh", "-c", f'date "+%F %T: a new release" >>{PUBLISHED}/{NEWS}')
    wait_until_in_step(time.monotonic())

    say("What each host holds")
    show_status()
    print(
        f"""
The demo is up, after {time.monotonic() - start:.0f} s. It goes on: cron on the mirrors pulls every minute.

  make demo-status              what each mirror holds
  make demo-login HOST=mirror1  look around. Try there:
                                  mirrornet status
                                  mirrornet pull {JOB} --dry-run
                                  ls {MIRRORED}/.mirrornet
                                  cat /etc/cron.d/mirrornet-{JOB} /etc/mirrornet/jobs/{JOB}.json
  make demo-login HOST={MASTER}  change {PUBLISHED} and see it arrive
  make demo                     again: changes nothing that is right
  make demo-down                remove all of it
""",
        flush=True,
    )


def status() -> None:
    """Show the table, if there is a demo."""
    if subprocess.run(["podman", "container", "exists", container(MASTER)], check=False).returncode != 0:
        raise DemoError("The demo isn't running: `make demo` starts it.")
    show_status()


def login(host: str) -> None:
    """Become a root shell on a host."""
    if host not in (MASTER, *MIRRORS):
        raise DemoError(f"Log in to which host? make demo-login HOST={MASTER}, or one of: {', '.join(MIRRORS)}.")
    if subprocess.run(["podman", "container", "exists", container(host)], check=False).returncode != 0:
        raise DemoError("The demo isn't running: `make demo` starts it.")
    options = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
    # How the shell ended is the visitor's affair.
    subprocess.run(["podman", "exec", *options, "--workdir", "/root", container(host), "bash", "--login"], check=False)


def down() -> None:
    """Remove the hosts and the network. Finds what an interrupted start has left, too."""
    found = subprocess.run(
        ["podman", "ps", "--all", "--quiet", "--filter", f"label=mirrornet.network={NETWORK}"], capture_output=True, text=True, check=True
    ).stdout.split()
    if found:
        subprocess.run(["podman", "rm", "--force", "--volumes", "--time", "0", *found], stdout=subprocess.DEVNULL, check=True)
    if subprocess.run(["podman", "network", "exists", NETWORK], check=False).returncode == 0:
        subprocess.run(["podman", "network", "rm", NETWORK], stdout=subprocess.DEVNULL, check=True)
    # Of hosts whose removal was interrupted: the next network would have its names asked for at the address of that one.
    Path("/run/containers/networks/aardvark-dns", NETWORK).unlink(missing_ok=True)
    print(f"The demo is gone: {len(found)} hosts and their network." if found else "There was no demo.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("up", "provision everything"), ("status", "show what each host holds"), ("down", "remove everything")):
        commands.add_parser(name, help=help_text)
    commands.add_parser("login", help="a root shell on a host").add_argument("host", nargs="?", default="")
    arguments = parser.parse_args()
    try:
        if arguments.command == "login":
            login(arguments.host)
        else:
            {"up": up, "status": status, "down": down}[arguments.command]()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
