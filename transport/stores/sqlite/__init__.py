"""The SQLite store: events in one file, for one broker.

The event loop hands its calls to one thread (`writer`, `thread`), which does all that is queued and
makes it durable at once. While the thread has nothing to do, the loop commits what comes alone
itself, and the kernel writes it (`fast_path`, `kernel_writes`). What both work on is the log:
topics and groups in memory (`log`, `rows`), and on the disk a journal, which a commit is one write
to (`journal`, `journal_file`), and the tables, which it is applied to later (`storage`,
`unapplied`, `tables`). What every group has settled is removed (`trim`), most of it before it has
come to the tables.
"""

from transport.stores.sqlite.store import open_store

__all__ = ["open_store"]
