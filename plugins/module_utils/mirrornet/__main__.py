# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m mirrornet``, and what the installed command runs."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
