# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is documented alike in several plugins."""

from __future__ import annotations


class ModuleDocFragment:
    """What Ansible loads."""

    #: What all modules can do. One that can't says so itself.
    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Whether it says what it would change, and changes nothing.
    support: full
  diff_mode:
    description: Whether it shows what it changes, before and after. Passwords and private keys are never shown.
    support: full
  platform:
    description: The systems that it runs on.
    support: full
    platforms: linux
"""
