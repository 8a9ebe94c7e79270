"""The program that builds the jail; runs as `python -I -S <this folder>`, stdlib only.

Its modules import one another by bare name, because the folder is the only thing on its path.
"""
