# bash as the shell: it execs a single simple command by itself, so the signal arrives, until somebody adds a redirection.
ARG BASE=graceful-exec
FROM ${BASE}
CMD ["bash", "-c", "graceful run app:app --host 0.0.0.0"]
