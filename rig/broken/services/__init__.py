"""The programs: each is started as a process of its own, and knows nothing of the rehearsal."""
