"""Sweeps: a list of recipes run on one data set, and what came of them as one table.

    lists     what a list of recipes is, read from TOML; the lists of the papers
    ledger    what was done so far, kept in the project, so that a sweep goes on where it was
    children  the trainings, each a process of its own
    conduct   who runs when, and what is measured after
    tables    the results as the papers print them
    curves    teacher entropy and KL over time as a picture

Nothing here trains: a run of a sweep is an ``engine train`` like any other.
"""
