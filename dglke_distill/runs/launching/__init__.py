"""Starting a training by many on its hosts, and watching over it.

The launcher starts an agent on each host, by ssh or as a process of its own; an agent starts the
host's server and trainers, says what becomes of them, and ends them when its launcher is gone.
"""
