"""The one exception that speaks to the user."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can fix.

    The message is one or two sentences that name the file, line or option at fault and say what
    to do. The command line prints it without a traceback and exits with code 2.
    """
