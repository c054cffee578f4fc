# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of mirrornet.rsync: everything that happens on a host, behind Ansible's modules and the command ``mirrornet`` alike.

Standard library only, Python 3.9 and later, nothing of Ansible. docs/architecture.md lists the rooms and who may call whom.
"""

from __future__ import annotations

__version__ = "0.1.0"
