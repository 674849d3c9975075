"""Mutants that change an answer and that its graded test lets pass, each with the reason why it may.

Notebook -> what `mutant_run` says of it -> reason. A better test is the better remedy; the list is for what no fair
test can tell from a right answer.
"""

SURVIVORS: dict[str, dict[str, str]] = {}
