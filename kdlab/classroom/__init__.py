"""What the notebooks need beyond the library: checks, quizzes, and the way from a script to a notebook."""
