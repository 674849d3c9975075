"""nbgrader on this repository's folders: `nbgrader generate_assignment 00_welcome`, formgrader.

`kdlab notebooks build` makes the releases with these same settings.
"""

from pathlib import Path

root = Path(__file__).parent
c = get_config()  # noqa: F821  (nbgrader hands it in)

c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "course"
# What lies beside a script stays there, unless `release_files` names it: then the build has put it into course/.
beside = {path.name for path in root.glob("solutions/*/*")}
released = {path.name for path in root.glob("course/*/*")}
c.CourseDirectory.ignore.extend(sorted(beside - released))

c.ClearSolutions.code_stub = {
    "python": '# Write your answer here, in place of the next line.\nraise NotImplementedError("not answered yet")'
}
c.ClearSolutions.text_stub = "*Write your answer here.*"

c.OverwriteCells.add_missing_cells = True
# What the kernels of Autograde and Validate do first; nothing of it is left among the student's names.
c.Execute.extra_arguments = [
    # nbgrader takes a test's points for a word on stderr, such as a warning. It becomes ordinary output.
    "--IPKernelApp.exec_lines=__import__('sys').stderr.name = 'stdout'",
    # The tensors are small: several threads cost more than they give.
    "--IPKernelApp.exec_lines=__import__('os').environ.setdefault('OMP_NUM_THREADS', '1')",
]
