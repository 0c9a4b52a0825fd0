"""One module a command: `SUMMARY`, `DESCRIPTION`, `EXAMPLES`, `add_arguments(parser)`, `run(args)`.

`run` returns the exit code. None of them imports anything heavy before its `run`.
"""
