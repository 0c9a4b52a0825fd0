"""A QUEUE, A SERVER, A PAGE: clips made one after another by a process that keeps the model loaded.

`making` is the one function that makes a clip's file; `queue` keeps what is asked for, `worker`
makes it, `app` answers HTTP, `static/` is the page. docs/studio.md is the way around.
"""
