"""The course: how its notebooks are made, and what a student meets in them. Nothing in the training part uses it."""
