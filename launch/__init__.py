"""The command line, cluster start-up and the checks that run before anything starts."""
