# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's plugins, imported as Ansible does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).parents[2]
# Makes ansible_collections.mirrornet.rsync importable.
init_plugin_loader([str(ROOT / ".collections")])


def plugin(name: str) -> ModuleType:
    """The plugin NAME, such as filter.mirror_jobs."""
    return import_module(f"ansible_collections.mirrornet.rsync.plugins.{name}")
