"""What all sources of database servers share, so that one thing has one word and one form in each of them.

- Settings: `ServerSettings` with the words that every server has, the types `Wish`, `Names`, `Databases`, `Tls`.
- URLs: `ServerUrls` turns a URL into settings, `server_location` turns settings into a URL. Neither holds a password.
- TLS: `effective_tls` says what the setting means, `unverified_server` is the check that warns of
  what `about_unverified` finds, `TLS_HINT` tells what to do.
- Options of a restore: `ServerRestoreOptions`, with `Renames`.
- Databases: `choose_databases` says what the settings mean on a server, `path_like` makes a name a part of a stream's.
- Restores: `undone_unless_finished` is the frame of one that can undo what it wrote; `leave_out` reports what a server
  does not take, or fails for it.
- Client programs: `find_programs` looks for them, `piped` hands them a text that nobody else can read.
- Errors: `Advice` finds the hint for what an engine says, `settle` decides a wish.
"""

from penstock.api.servers.advice import Advice, listed, settle
from penstock.api.servers.clients import Program, find_programs, piped
from penstock.api.servers.databases import check_destinations, choose_databases, path_like
from penstock.api.servers.leaving_out import leave_out
from penstock.api.servers.settings import (
    Databases,
    Names,
    Renames,
    ServerRestoreOptions,
    ServerSettings,
    Tls,
    Wish,
    YesNo,
)
from penstock.api.servers.streams import TextStream, last_held_back, whole_text
from penstock.api.servers.tls import TLS_HINT, about_unverified, effective_tls, leaves_machine, unverified_server
from penstock.api.servers.undoing import UndoableRestore, undone_unless_finished
from penstock.api.servers.urls import ServerUrls, server_location

__all__ = [
    "Advice",
    "Databases",
    "Names",
    "Program",
    "Renames",
    "ServerRestoreOptions",
    "ServerSettings",
    "ServerUrls",
    "TLS_HINT",
    "TextStream",
    "Tls",
    "UndoableRestore",
    "Wish",
    "YesNo",
    "about_unverified",
    "check_destinations",
    "choose_databases",
    "effective_tls",
    "find_programs",
    "last_held_back",
    "leave_out",
    "leaves_machine",
    "listed",
    "path_like",
    "piped",
    "server_location",
    "settle",
    "undone_unless_finished",
    "unverified_server",
    "whole_text",
]
